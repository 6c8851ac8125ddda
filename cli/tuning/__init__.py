"""`siglip-edge tune`: plans raced on this machine."""
