//! A report, and a run that goes on, for people: text, a line on the terminal, an HTML page.

mod html;
pub(crate) mod numbers;
mod progress;
pub(crate) mod table;
mod text;

pub use html::render_html;
pub use progress::ProgressLine;
pub use text::render_text;
