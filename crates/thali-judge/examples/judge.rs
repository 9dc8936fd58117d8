//! The judge as a command: `echo '{"language":"python","problem":"fizzbuzz","code":"…"}' | judge`.

fn main() {
    if let Err(error) = thali_judge::run_stdio(&thali_sandbox::Policy::default()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
