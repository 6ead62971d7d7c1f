"""Pages in a browser: labelling, board and chat, served by one process. Needs the extra `serve`."""
