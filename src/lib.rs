pub mod domain;
pub mod games;
