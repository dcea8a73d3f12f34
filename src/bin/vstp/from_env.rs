//! [`FromEnv`]: flags that nobody wrote for this call.
//!
//! A flag on the command line that has no meaning there is a mistake, and refused. A variable of the environment holds for
//! all calls, and is ignored by those for which it has no meaning.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

/// Which of these flags come from the environment; `false` for a flag that the command does not have. It is the first
/// field where it is used, as the parser forgets what it has handed out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FromEnv {
    pub(crate) event_log: bool,
    pub(crate) via: bool,
    pub(crate) reconnect: bool,
}

impl FromArgMatches for FromEnv {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_from_env = |id| {
            matches.try_contains_id(id).is_ok()
                && matches.value_source(id) == Some(ValueSource::EnvVariable)
        };
        Ok(Self {
            event_log: is_from_env("event_log"),
            via: is_from_env("via"),
            reconnect: is_from_env("reconnect"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// No flags of its own.
impl Args for FromEnv {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
