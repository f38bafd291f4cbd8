//! ringport, the program: arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringport::cli::main(std::env::args_os())
}
