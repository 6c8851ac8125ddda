"""`siglip-edge tune`: times execution plans on this machine."""
