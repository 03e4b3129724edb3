//! Seeds of images: every form of input, each kind of member, and the ways out that archives are known for.

use std::io::Write;

use super::image::form;
use super::seeds::Seeds;
use super::tar_text::{OUTSIDE, is};

/// A member in the short form.
#[derive(Default)]
struct Member<'a> {
    flags: u8,
    name: &'a [u8],
    link: &'a [u8],
    kind: u8,
    /// What the flags announce between the link and the content.
    more: Vec<u8>,
    content: &'a [u8],
}

impl Member<'_> {
    fn put(&self, seed: &mut Vec<u8>) {
        let flags = self.flags | if self.link.is_empty() { 0 } else { is::LINKED };
        seed.extend_from_slice(&[flags, self.kind, 0o755_u16.to_be_bytes()[0], 0o755_u16.to_be_bytes()[1]]);
        text(seed, self.name);
        if flags & is::LINKED != 0 {
            text(seed, self.link);
        }
        seed.extend_from_slice(&self.more);
        let length = u16::try_from(self.content.len()).expect("seeds are short");
        seed.extend_from_slice(&length.to_le_bytes());
        seed.extend_from_slice(self.content);
    }
}

fn text(seed: &mut Vec<u8>, text: &[u8]) {
    seed.push(u8::try_from(text.len()).expect("seeds are short"));
    seed.extend_from_slice(text);
}

fn members(form: u8, members: &[Member<'_>]) -> Vec<u8> {
    let mut seed = vec![form];
    members.iter().for_each(|member| member.put(&mut seed));
    seed
}

fn layer(parts: &[Member<'_>]) -> Vec<u8> {
    members(form::LAYER, parts)
}

fn file<'a>(name: &'a [u8], content: &'a [u8]) -> Member<'a> {
    Member { kind: b'0', name, content, ..Member::default() }
}

fn dir(name: &[u8]) -> Member<'_> {
    Member { kind: b'5', name, ..Member::default() }
}

fn link<'a>(kind: u8, name: &'a [u8], link: &'a [u8]) -> Member<'a> {
    Member { kind, name, link, ..Member::default() }
}

/// Records of an extended header.
fn records(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut more = vec![u8::try_from(pairs.len()).expect("seeds are short")];
    for (key, value) in pairs {
        text(&mut more, key);
        text(&mut more, value);
    }
    more
}

pub(super) fn image() -> Seeds {
    let out = &[OUTSIDE][..];
    let through = [out, b"/new"].concat();
    let victim = [out, b"/victim"].concat();
    let extended = |name, content, pairs: &[(&[u8], &[u8])]| Member {
        flags: is::EXTENDED,
        more: records(pairs),
        ..file(name, content)
    };
    let plain =
        layer(&[dir(b"d/"), file(b"d/f", b"hello"), link(b'2', b"l", b"d/f"), link(b'1', b"h", b"d/f")]);
    let sparse_map = [&b"1\n0\n3\n"[..], &[0; 506], b"abc"].concat();
    // Offset and length of one part, no more parts, the size of the whole.
    let old_map = [&[193, 109][..], b"00000000002\x0000000000001\0", &[0; 73], b"00000000011\0"].concat();
    let capability = [&[0, 0, 0, 2, 0, 4, 0, 0][..], &[0; 12]].concat();
    let index = br#"{"schemaVersion":2,"manifests":[{"digest":"$m","size":#m,"annotations":{"org.opencontainers.image.ref.name":"a"}}]}"#;
    let manifest =
        br#"{"schemaVersion":2,"config":{"digest":"$c","size":#c},"layers":[{"digest":"$l","size":#l}]}"#;
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","config":{{"User":"0:0","Cmd":["a"]}},"rootfs":{{"type":"layers","diff_ids":["$l"]}}}}"#,
        crate::Platform::this_machine().architecture
    );
    let nested = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"$m","size":#m}]}"#;
    let inner = String::from_utf8_lossy(index).replace("$m", "$c").replace("#m", "#c");
    let innermost = String::from_utf8_lossy(manifest).replace("$c", "$l").replace("#c", "#l");
    let documents = |parts: [&[u8]; 3]| [&[form::DOCUMENTS][..], &parts.join(&0)].concat();
    let blob = |bytes: &[u8]| [&[form::BLOB][..], bytes].concat();
    let archive = super::tar_text::archive(&plain[1..], b"");
    vec![
        ("plain", plain.clone()),
        (
            "fifo-device",
            layer(&[
                Member { kind: b'6', name: b"p", ..Member::default() },
                Member { kind: b'3', name: b"c", ..Member::default() },
            ]),
        ),
        (
            "whiteouts",
            layer(&[dir(b"d"), file(b"d/.wh.x", b""), file(b"d/.wh..wh..opq", b""), file(b".wh.d", b"")]),
        ),
        ("opaque-root", layer(&[file(b".wh..wh..opq", b""), dir(b"./")])),
        (
            "same-name",
            layer(&[
                file(b"a", b"1"),
                file(b"a", b"2"),
                dir(b"a"),
                file(b"a/b", b"3"),
                link(b'2', b"a", b"x"),
            ]),
        ),
        ("out-absolute", layer(&[file(&through, b"x"), file(&victim, b"x")])),
        ("out-symlink", layer(&[link(b'2', b"a", out), file(b"a/new", b"x"), dir(b"a/victims")])),
        (
            "out-two-symlinks",
            layer(&[
                link(b'2', b"a", b"../../../../outside"),
                link(b'2', b"b", b"a/victims"),
                file(b"b/new", b""),
            ]),
        ),
        (
            "out-hard-link",
            layer(&[
                link(b'1', b"a", &victim),
                link(b'2', b"s", out),
                link(b'1', b"b", b"s/victim"),
                file(b"b", b"x"),
            ]),
        ),
        (
            "out-whiteout",
            layer(&[link(b'2', b"a", out), file(b"a/.wh.victim", b""), file(b"a/.wh..wh..opq", b"")]),
        ),
        ("dots", layer(&[dir(b"a"), file(b"a/../../x", b"x")])),
        (
            "owned",
            layer(&[Member {
                flags: is::OWNED,
                more: [1000_u64, 7, u64::MAX].into_iter().flat_map(u64::to_le_bytes).collect(),
                ..file(b"f", b"x")
            }]),
        ),
        ("large", layer(&[Member { flags: is::LARGE, ..file(b"f", &[7; 200]) }])),
        (
            "sized",
            layer(&[Member {
                flags: is::SIZED,
                more: (1_u64 << 40).to_le_bytes().to_vec(),
                ..file(b"f", b"x")
            }]),
        ),
        (
            "extended",
            layer(&[extended(
                b"f",
                b"x",
                &[
                    (b"path", b"d/long"),
                    (b"mtime", b"-1.25"),
                    (b"SCHILY.xattr.user.a", b"1"),
                    (b"uid", b"1000"),
                ],
            )]),
        ),
        (
            "overlay-attributes",
            layer(&[extended(
                b"f",
                b"x",
                &[
                    (b"SCHILY.xattr.user.overlay.redirect", b"/x"),
                    (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    (b"SCHILY.xattr.security.capability", &capability),
                ],
            )]),
        ),
        (
            "sparse-1.0",
            layer(&[extended(
                b"f",
                &sparse_map,
                &[
                    (b"GNU.sparse.major", b"1"),
                    (b"GNU.sparse.minor", b"0"),
                    (b"GNU.sparse.name", b"s"),
                    (b"GNU.sparse.realsize", b"9"),
                ],
            )]),
        ),
        (
            "sparse-old",
            layer(&[Member { flags: is::GNU | is::RAW, more: old_map, kind: b'S', ..file(b"f", b"x") }]),
        ),
        (
            "long-name",
            layer(&[
                Member { kind: b'L', ..file(b"././@LongLink", b"d/long\0") },
                Member { kind: b'K', ..file(b"././@LongLink", b"x\0") },
                link(b'2', b"x", b"y"),
            ]),
        ),
        ("global", layer(&[Member { kind: b'g', ..file(b"pax", b"9 path=x\n") }, file(b"f", b"")])),
        ("cut", layer(&[Member { flags: is::CUT, ..file(b"f", b"xyz") }])),
        ("archive", [&[form::ARCHIVE][..], &archive[..1536]].concat()),
        (
            "members",
            members(
                form::MEMBERS,
                &[
                    file(b"manifest.json", br#"[{"Config":"c","Layers":["x/../l","l"]}]"#),
                    file(
                        b"c",
                        br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#,
                    ),
                    link(b'2', b"x/l", b"../l"),
                    link(b'1', b"l", b"m"),
                    link(b'2', b"m", b"l"),
                ],
            ),
        ),
        (
            "gzip",
            blob(&{
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&archive).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            }),
        ),
        (
            "zstd",
            blob(&ruzstd::encoding::compress_to_vec(
                &archive[..],
                ruzstd::encoding::CompressionLevel::Fastest,
            )),
        ),
        ("skippable", blob(&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9])),
        ("documents", documents([index, manifest, config.as_bytes()])),
        ("index-in-index", documents([nested, inner.as_bytes(), innermost.as_bytes()])),
    ]
}

/// The layers among them in their short form and as they are, streams, and an extended header.
pub(super) fn archive() -> Seeds {
    let mut seeds = Seeds::new();
    for (name, bytes) in image() {
        match bytes[0] {
            form::LAYER | form::BLOB => seeds.push((name, bytes[1..].to_vec())),
            _ => {}
        }
    }
    let whole = |name| {
        let (_, bytes) = seeds.iter().find(|(other, _)| *other == name).expect("it is a layer");
        super::tar_text::archive(bytes, b"/outside")
    };
    let (plain, sparse) = (whole("plain"), whole("sparse-1.0"));
    seeds.extend([("tar", plain), ("tar-sparse", sparse), ("pax", b"9 path=x\n15 mtime=-1.25\n".to_vec())]);
    seeds
}
