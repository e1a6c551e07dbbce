"""Writing data sets, once: sources of images in, `.beton` files and a manifest out."""
