//! Ctrl-C and its relatives as events.
//!
//! The first SIGINT or SIGTERM asks the command to end in order, the second ends it at once; SIGHUP asks a
//! server to read its certificate again. One thread, `vstp-signals`, which lives as long as the process.
//! Where there are no such signals (Windows), Ctrl-C ends the command as the system does.

use crossbeam_channel::Receiver;

/// What the user or the system asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// End in order.
    Stop {
        /// Whether a person at a terminal asked (SIGINT).
        interrupted: bool,
    },
    /// Read the certificate again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no SIGHUP"))]
    Reload,
}

/// The events from now on, called once; SIGHUP is one only for who can reload something.
#[cfg(unix)]
pub(crate) fn listen(reload: bool) -> Result<Receiver<Event>, crate::exit::Failure> {
    use crate::exit::{Failure, INTERRUPTED, OTHER};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let failed = |e: std::io::Error| Failure::new(OTHER, format!("signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    if reload {
        signals.add_signal(SIGHUP).map_err(failed)?;
    }
    // More than these wait for nobody: a command looks at them within a moment, or has ended.
    let (sender, receiver) = crossbeam_channel::bounded(16);
    let run = move || {
        let mut asked = false;
        for signal in signals.forever() {
            let event = match signal {
                SIGHUP => Event::Reload,
                _ if asked => std::process::exit(i32::from(INTERRUPTED)),
                _ => {
                    asked = true;
                    Event::Stop {
                        interrupted: signal == SIGINT,
                    }
                }
            };
            let _ = sender.try_send(event);
        }
    };
    std::thread::Builder::new()
        .name("vstp-signals".to_owned())
        .spawn(run)
        .map_err(failed)?;
    Ok(receiver)
}

/// The events from now on: never one.
#[cfg(not(unix))]
pub(crate) fn listen(_: bool) -> Result<Receiver<Event>, crate::exit::Failure> {
    Ok(crossbeam_channel::never())
}
