//! The subcommands that need no server: they read stored reports.

pub(crate) mod compare;
pub(crate) mod html;
