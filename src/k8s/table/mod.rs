//! Objects as the rows of the tables that `kubectl get` prints (kubernetes pkg/printers/internalversion,
//! cli-runtime pkg/printers/tableprinter.go).

mod cells;
mod columns;
mod duration;
mod model;
mod pod;
mod print;
mod tabs;

pub use self::cells::{conditions, row};
pub use self::columns::{Column, columns};
pub use self::duration::human_duration;
pub use self::model::{Row, services};
pub use self::print::{Layout, Line, print, written};
pub use self::tabs::Tabs;

#[cfg(test)]
mod tests;
