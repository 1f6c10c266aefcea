//! What was archived is read as it was.
