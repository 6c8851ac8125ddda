"""From a decoded image to a row of pixels."""
