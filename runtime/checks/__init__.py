"""Checks on this machine: the self-test of a model, and the plan that `siglip-edge tune` found fastest."""
