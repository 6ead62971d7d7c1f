"""What Python code calls: `import plaudit as pl`. The names stand in plaudit/__init__.py, loaded when first used."""
