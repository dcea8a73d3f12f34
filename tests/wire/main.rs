//! The codec from outside: `vstp::wire` and `vstp::codec`, with literal bytes, seeded mutations and
//! the frames that another implementation produced. Files are named by concern, tests by the
//! behaviour they prove; `a05_...` and the like are rows of the fault matrix.

mod encoder;
mod limits;
mod malformed;
mod numbers;
mod properties;
mod util;
mod vectors;
