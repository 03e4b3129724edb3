//! The extended attributes of files, as the sandbox sees them.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use super::walk::View;
use crate::entries::is_kept;
use crate::sys;

/// How many bytes the attributes of a file may have: a program chooses how many there are.
const MOST_BYTES: usize = 1 << 20;

impl View {
    /// Those that are part of what a file is, sorted by name; `E2BIG` for more than a MiB.
    pub(crate) fn attributes(&self, file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut left = MOST_BYTES;
        for name in sys::list_xattrs(file)?.into_iter().filter(|name| is_kept(name.as_bytes())) {
            let value = sys::get_xattr(file, &name);
            if let Ok(Some(value)) = &value {
                let taken = name.as_bytes().len() + value.len() + size_of::<(CString, Vec<u8>)>();
                left = left.checked_sub(taken).ok_or(io::Error::from_raw_os_error(libc::E2BIG))?;
            }
            match value {
                Ok(Some(value)) if name.as_bytes() == b"security.capability" => {
                    found.push((name, self.capabilities(value)));
                }
                Ok(Some(value)) => found.push((name, value)),
                // It is gone since.
                Ok(None) => {}
                // Capabilities of a user namespace that this one cannot name, and that are nothing in it.
                Err(error) if error.raw_os_error() == Some(libc::EOVERFLOW) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The capabilities of a file (`struct vfs_ns_cap_data`). Those of a user namespace name the id that its root has
    /// outside; to that root they are like any others.
    fn capabilities(&self, mut value: Vec<u8>) -> Vec<u8> {
        const PLAIN: u8 = 2;
        const OF_A_NAMESPACE: u8 = 3;
        /// Where the id is, at the end.
        const ROOT: usize = 20;
        let Some((_, root)) =
            value.split_last_chunk().filter(|(rest, _)| rest.len() == ROOT && rest[3] == OF_A_NAMESPACE)
        else {
            return value;
        };
        match self.uid(u32::from_le_bytes(*root)) {
            0 => {
                value.truncate(ROOT);
                value[3] = PLAIN;
            }
            root => value[ROOT..].copy_from_slice(&root.to_le_bytes()),
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idmap::{Extent, Maps, Writer};

    #[test]
    fn capabilities_name_the_root_inside() {
        let block = vec![Extent { inside: 0, outside: 524_288, count: 65536 }];
        let view = View::Mapped(Maps { uids: block.clone(), gids: block, writer: Writer::Privileged });
        let of_root = |revision: u8, root: &[u8]| [&[1, 0, 0, revision], &[7; 16][..], root].concat();
        for (told, wanted) in [
            (of_root(3, &524_288_u32.to_le_bytes()), of_root(2, &[])),
            (of_root(3, &524_290_u32.to_le_bytes()), of_root(3, &2_u32.to_le_bytes())),
            (of_root(3, &7_u32.to_le_bytes()), of_root(3, &65534_u32.to_le_bytes())),
            (of_root(2, &[]), of_root(2, &[])),
            (of_root(2, &[0; 4]), of_root(2, &[0; 4])),
            (vec![1, 0, 0, 3], vec![1, 0, 0, 3]),
            (Vec::new(), Vec::new()),
        ] {
            assert_eq!(view.capabilities(told.clone()), wanted, "{told:?}");
        }
        let of_host = of_root(3, &7_u32.to_le_bytes());
        assert_eq!(View::AsOnDisk.capabilities(of_host.clone()), of_host);
    }
}
