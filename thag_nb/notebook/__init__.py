"""What IPython and its front ends see: the extension, magics, cells, the live view."""
