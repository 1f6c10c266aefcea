//! Follows tables and fans out to viewers.
