use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn head(kind: Kind, namespace: &str, id: Option<u64>, payload: &'static str) -> Head<'static> {
    let namespace = Box::leak(namespace.to_owned().into_boxed_str());
    Head { kind, attachments: 0, namespace, id, payload }
}

#[test]
fn heads() {
    let table: &[(&str, Result<Head<'_>, PacketError>)] = &[
        ("0", Ok(head(Kind::Connect, "/", None, ""))),
        ("0{\"token\":1}", Ok(head(Kind::Connect, "/", None, "{\"token\":1}"))),
        ("0/custom", Ok(head(Kind::Connect, "/custom", None, ""))),
        ("0/custom,{}", Ok(head(Kind::Connect, "/custom", None, "{}"))),
        ("1", Ok(head(Kind::Disconnect, "/", None, ""))),
        ("1/custom,", Ok(head(Kind::Disconnect, "/custom", None, ""))),
        ("2[\"a\"]", Ok(head(Kind::Event, "/", None, "[\"a\"]"))),
        ("2/n,12[\"a\"]", Ok(head(Kind::Event, "/n", Some(12), "[\"a\"]"))),
        ("312[]", Ok(head(Kind::Ack, "/", Some(12), "[]"))),
        (
            "51-[\"a\",{\"_placeholder\":true,\"num\":0}]",
            Ok(Head {
                attachments: 1,
                ..head(Kind::Event, "/", None, "[\"a\",{\"_placeholder\":true,\"num\":0}]")
            }),
        ),
        ("", Err(PacketError::UnknownType)),
        ("abc", Err(PacketError::UnknownType)),
        ("7", Err(PacketError::UnknownType)),
        ("2{}", Err(PacketError::Payload)),
        ("2", Err(PacketError::Payload)),
        ("2abc[\"x\"]", Err(PacketError::Payload)),
        ("0[]", Err(PacketError::Payload)),
        ("1{}", Err(PacketError::Payload)),
        ("5[\"a\"]", Err(PacketError::Attachments)),
        ("599-[\"a\"]", Err(PacketError::Attachments)),
        ("5-[\"a\"]", Err(PacketError::Attachments)),
        ("21234567890123456[\"a\"]", Err(PacketError::AckId)),
    ];
    for (input, expected) in table {
        assert_eq!(decode(input), *expected, "{input:?}");
    }
    let long = format!("0/{}", "n".repeat(NAMESPACE_BYTES_MAX));
    assert_eq!(decode(&long), Err(PacketError::Namespace));
}

#[test]
fn events_have_a_name_and_json() {
    let event = event_args(r#"["subscribe","room",{"a":[1]}]"#).unwrap();
    assert_eq!(event.name, "subscribe");
    assert_eq!(event.args.iter().map(|arg| arg.get()).collect::<Vec<_>>(), [r#""room""#, r#"{"a":[1]}"#]);
    assert_eq!(event_args("[1,2]").unwrap().name, "1");
    for bad in ["[]", "[{}]", "[null]", "[\"a\"", "{}", "[\"a\",]"] {
        assert_eq!(event_args(bad).err(), Some(PacketError::Payload), "{bad}");
    }
}

#[test]
fn attachments_complete_a_packet() {
    let pool = Arc::new(Pool::new(100));
    let mut assembler = Assembler::new(10, pool.clone());
    let text = r#"52-["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
    assert!(matches!(assembler.text(text, |_| Ok(())), Ok(None)));
    assert_eq!(assembler.text("2[\"b\"]", |_| Ok(())), Err(PacketError::OutOfPlace));
    assert!(matches!(assembler.binary(Bytes::from_static(b"one"), |_| Ok(())), Ok(None)));
    let whole = assembler.binary(Bytes::from_static(b"two"), |packet| Ok(packet.attachments)).unwrap();
    assert_eq!(whole.unwrap(), [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    assert_eq!(assembler.binary(Bytes::new(), |_| Ok(())), Err(PacketError::OutOfPlace));
    assembler.text(text, |_| Ok(())).unwrap();
    let large = Bytes::from_static(b"0123456789x");
    assert_eq!(assembler.binary(large, |_| Ok(())), Err(PacketError::TooLarge));
}

#[test]
fn waiting_attachments_have_a_bound_over_all_sessions() {
    let pool = Arc::new(Pool::new(10));
    let begin = || {
        let mut assembler = Assembler::new(10, pool.clone());
        assembler.text("52-[\"a\"]", |_| Ok(())).unwrap();
        assembler
    };
    let six = Bytes::from_static(b"123456");
    let (mut first, mut second) = (begin(), begin());
    first.binary(six.clone(), |_| Ok(())).unwrap();
    assert_eq!(second.binary(six.clone(), |_| Ok(())), Err(PacketError::PoolFull));
    first.binary(Bytes::from_static(b"7890"), |_| Ok(())).unwrap();
    assert_eq!(pool.bytes(), 0, "a whole packet waits no longer");
    second.binary(six, |_| Ok(())).unwrap();
    drop(second);
    assert_eq!(pool.bytes(), 0, "nor one whose session is over");
}

#[test]
fn placeholders_are_checked_and_numbered_anew() {
    let attachments = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let (json, own) = renumber(r#"{"x":{"_placeholder":true,"num":1}}"#, &attachments).unwrap();
    assert_eq!(json, r#"{"x":{"_placeholder":true,"num":0}}"#);
    assert_eq!(own, [attachments[1].clone()]);
    for bad in [r#"{"_placeholder":true,"num":2}"#, r#"{"_placeholder":true}"#] {
        assert_eq!(renumber(bad, &attachments), Err(PacketError::Attachments), "{bad}");
    }
}

#[test]
fn packets_that_leave() {
    let text = |message: Message| String::from_utf8(message.text.to_vec()).unwrap();
    assert_eq!(text(connected("/", "abc", None)), r#"40{"sid":"abc"}"#);
    assert_eq!(text(connected("/", "abc", Some("x"))), r#"40{"sid":"abc","pid":"x"}"#);
    assert_eq!(text(connected("/n", "abc", None)), r#"40/n,{"sid":"abc"}"#);
    assert_eq!(
        text(connect_error("/random", "Invalid namespace", None)),
        r#"44/random,{"message":"Invalid namespace"}"#
    );
    assert_eq!(text(disconnect("/")), "41");
    assert_eq!(text(event("/", "a\"b", "{\"x\":1}", vec![])), r#"42["a\"b",{"x":1}]"#);
    assert_eq!(text(acknowledge("/", 7, "[1]", vec![])), "437[1]");
    let binary = event("/", "b", r#"{"_placeholder":true,"num":0}"#, vec![Bytes::from_static(b"x")]);
    assert_eq!(binary.frames().count(), 2);
    assert_eq!(text(binary), r#"451-["b",{"_placeholder":true,"num":0}]"#);
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Ok(head) = decode(&text) {
            let _ = event_args(head.payload);
        }
    }

    #[test]
    fn written_events_read_back(
        namespace in "/[a-z]{0,8}",
        id in prop::option::of(0u64..1_000_000_000_000_000),
        name in any::<String>(),
        data in any::<String>(),
    ) {
        let mut array = String::from("[");
        json_string(&mut array, &name);
        array.push(',');
        json_string(&mut array, &data);
        array.push(']');
        let message = event_array(&namespace, id, &array, vec![]);
        let text = std::str::from_utf8(&message.text).unwrap();
        let head = decode(&text[1..]).unwrap();
        prop_assert_eq!((head.kind, head.namespace, head.id), (Kind::Event, namespace.as_str(), id));
        let event = event_args(head.payload).unwrap();
        prop_assert_eq!(event.name, name);
        prop_assert_eq!(serde_json::from_str::<String>(event.args[0].get()).unwrap(), data);
    }
}
