//! A frame that decodes is encoded to the bytes it came from, borrowed as owned; prefixes of it need more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vstp::wire::{self, Decoded, Limits, Trailer};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    for trailer in [Trailer::Always, Trailer::WhenFlagged] {
        let Ok(Decoded::Frame(frame, len)) = wire::decode(bytes, trailer, &limits) else {
            continue;
        };
        let mut again = Vec::new();
        let written = wire::encode(frame, trailer, &limits, &mut again).expect("it was decoded");
        assert_eq!(written, len);
        // Any checksum is taken here, and the right one is written.
        let body = len.saturating_sub(4);
        assert_eq!(again[..body], bytes[..body]);
        assert_eq!(frame.to_owned().as_ref(), frame);
        for cut in [0, 1, len / 2, len - 1] {
            match wire::decode(&bytes[..cut], trailer, &limits) {
                Ok(Decoded::Incomplete { needed }) => assert!((1..=len - cut).contains(&needed)),
                part => panic!("{cut} of {len} bytes: {part:?}"),
            }
        }
    }
});
