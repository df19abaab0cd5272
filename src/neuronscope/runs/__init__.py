"""Many neurons: what they share, where their results go, and how they are worked on side by side."""
