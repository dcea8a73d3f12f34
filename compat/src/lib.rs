//! Nothing; the tests are in `tests/compat.rs`.
