"""The pure part of the sign-off."""
