//! Owns tables: decides, appends, evolves, replies.
