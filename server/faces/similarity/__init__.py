"""The API of Vision-Language Similarity Service: pairs of image and text by its field names."""
