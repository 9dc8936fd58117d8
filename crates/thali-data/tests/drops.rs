//! Values of a table are dropped once, whatever becomes of the string in them.
#![allow(unsafe_code)]

use std::rc::Rc;

use thali_data::table::{StringOf, Tail};
use thali_data::{Before, New, Stored, Str, Table};

struct Counted {
    text: Option<Str>,
    alive: Rc<()>,
}

impl Stored for Counted {
    // SAFETY: a part of the value, which nothing changes by a shared reference.
    const TAIL: Tail<Self> = Tail::OfString(unsafe { StringOf::new(|counted| counted.text.as_ref()) });
}

#[test]
fn each_value_is_dropped_once() {
    let alive = Rc::new(());
    let counted = |text: Option<Str>| Counted { text, alive: Rc::clone(&alive) };
    let texts =
        ["12", "inline", "of 16 bytes, so.", "of 18 bytes, again", &"long".repeat(40), &"longer".repeat(100)];
    let mut table: Table<Counted> = Table::new();
    for text in texts {
        for other in texts {
            for change in 0..6 {
                let put = |table: &mut Table<Counted>, text: &str| {
                    let new = New::with_bytes(counted(Some(Str::new())), text.as_bytes());
                    table.put(table.hash(b"key"), b"key", new, |_| ())
                };
                assert!(put(&mut table, text).is_nothing());
                match change {
                    0 => assert!(table.remove(b"key").is_some()),
                    1 => {
                        let value = table.remove(b"key").unwrap().into_value();
                        assert!(Rc::ptr_eq(&value.alive, &alive));
                        assert_eq!(value.text.unwrap().to_vec(), text.as_bytes());
                    }
                    2 => assert_eq!(
                        table.insert(b"key", counted(None)).unwrap().text.unwrap().to_vec(),
                        text.as_bytes()
                    ),
                    3 => table.get_mut(b"key").unwrap().text = None,
                    4 => _ = table.insert(b"key", counted(Some(other.as_bytes().into()))),
                    _ => match put(&mut table, other) {
                        Before::Value(value) => assert_eq!(value.text.unwrap().to_vec(), text.as_bytes()),
                        before => assert!(!before.is_nothing()),
                    },
                }
                assert_eq!(Rc::strong_count(&alive), table.len() + 1);
                table.clear();
                assert_eq!(Rc::strong_count(&alive), 1);
            }
        }
    }
}
