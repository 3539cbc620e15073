"""What is measured of masks: sizes, surfaces, diameters, and the values of the image."""
