"""GeoJSON: the outlines of what is drawn on a picture, as QuPath and other programs of pathology read them."""
