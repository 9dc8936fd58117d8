//! Prints what the demo's page loads as its samples.

fn main() {
    println!("{}", thali_judge::samples_json());
}
