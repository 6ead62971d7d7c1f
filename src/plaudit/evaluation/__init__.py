"""What the pipeline has learnt, with intervals, floors and ceilings (N5). Functions in, plain records out."""
