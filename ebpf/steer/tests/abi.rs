//! Compares `abi.rs` with the object that the C compiler made: map shapes from its map definitions,
//! layouts from its BTF; and the constants and verdicts, which leave no trace in an object, with the
//! text of `abi.h`. Opening an object asks nothing of the kernel, so this needs no privileges.

use std::collections::BTreeMap;
use std::mem::size_of;

use barewire_steer::{OBJECT, abi};
use libbpf_rs::btf::types::{Composite, MemberAttr};
use libbpf_rs::{Btf, HasSize, MapType, ObjectBuilder};

const ABI_H: &str = include_str!("../src/abi.h");

fn btf() -> Btf<'static> {
    Btf::from_raw("steer", OBJECT).expect("the object is ELF").expect("the object has BTF")
}

/// Name, offset in bytes of every member of a C struct, and the size of it all.
fn layout(name: &str) -> (Vec<(String, u32)>, usize) {
    let btf = btf();
    let composite: Composite<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no {name}"));
    let members = composite.iter().map(|member| {
        let MemberAttr::Normal { offset } = member.attr else { panic!("{name} has a bit field") };
        (member.name.expect("named").to_string_lossy().into_owned(), offset / 8)
    });
    (members.collect(), composite.size())
}

fn assert_layout(name: &str, members: &[(&str, u32)], size: usize) {
    let (found, found_size) = layout(name);
    let found: Vec<(&str, u32)> = found.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    assert_eq!(found, members, "members of {name}");
    assert_eq!(found_size, size, "size of {name}");
}

#[test]
fn layouts_are_those_of_the_c_structs() {
    assert_layout(
        "steer_config",
        &[("magic", 0), ("abi_version", 4), ("enabled", 8), ("on_missing", 12)],
        size_of::<abi::Config>(),
    );
    assert_layout("steer_address", &[("bytes", 0)], size_of::<abi::Address>());
    assert_layout("steer_prefix", &[("len", 0), ("address", 4)], size_of::<abi::PrefixKey>());
    assert_layout(
        "steer_listener",
        &[("address", 0), ("port", 16), ("zero", 18)],
        size_of::<abi::ListenerKey>(),
    );
    assert_layout("steer_port_range", &[("low", 0), ("high", 2)], size_of::<abi::PortRange>());
}

#[test]
fn verdicts_are_in_the_order_of_the_c_enum() {
    let (_, rest) = ABI_H.split_once("enum steer_verdict {").expect("the enum");
    let (body, _) = rest.split_once("};").expect("its end");
    let found: Vec<&str> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("STEER_"))
        .filter_map(|rest| rest.split(',').next())
        .collect();
    let expected = abi::Verdict::ALL.iter().map(|verdict| verdict.name().to_uppercase());
    let expected: Vec<String> = expected.chain(["VERDICTS".to_string()]).collect();
    assert_eq!(found, expected);
}

#[test]
fn constants_have_the_values_of_the_c_macros() {
    for (name, value) in [
        ("STEER_MAGIC", format!("{:#x}u", abi::MAGIC)),
        ("STEER_ABI_VERSION", abi::ABI_VERSION.to_string()),
        ("STEER_EXTENSION_HEADERS_MAX", abi::EXTENSION_HEADERS_MAX.to_string()),
    ] {
        let found = ABI_H.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())
        });
        assert_eq!(found.flatten(), Some(value.as_str()), "{name}");
    }
}

#[test]
fn maps_have_the_shapes_that_user_space_expects() {
    let object = ObjectBuilder::default().open_memory(OBJECT).expect("libbpf opens the object");
    let found: BTreeMap<String, (MapType, u32)> = object
        .maps()
        .map(|map| (map.name().to_string_lossy().into_owned(), (map.map_type(), map.max_entries())))
        .collect();
    let verdicts = abi::Verdict::ALL.len() as u32;
    let expected = BTreeMap::from([
        (abi::MAP_CONFIG.to_string(), (MapType::Array, 1)),
        (abi::MAP_XSKS.to_string(), (MapType::Xskmap, abi::QUEUES_MAX)),
        (abi::MAP_PREFIXES.to_string(), (MapType::LpmTrie, abi::PREFIXES_MAX)),
        (abi::MAP_LISTENERS.to_string(), (MapType::Hash, abi::LISTENERS_MAX)),
        (abi::MAP_PORT_RANGES.to_string(), (MapType::Hash, abi::PORT_RANGES_MAX)),
        (abi::MAP_VERDICTS.to_string(), (MapType::PercpuArray, verdicts)),
    ]);
    assert_eq!(found, expected);
    let mut names: Vec<&str> = abi::MAPS.to_vec();
    names.sort_unstable();
    assert!(found.keys().map(String::as_str).eq(names), "abi::MAPS lists every map");
    let program = object.progs().next().expect("a program");
    assert_eq!(program.name(), abi::PROGRAM);
}
