"""Image files without their metadata, a module per format.

Pillow and the libraries below it parse text, dates and notes together with the pixels, and refuse a good picture for a
bad note. Each module copies only the parts that decide the pixels, and takes out orientation and colour profile.
"""
