//! What a sandbox has changed in its root, as a layer of an image or as an archive.

use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;

use super::build::Draft;
use super::pack::Packer;
use super::{Image, ImageBuilder};
use crate::changes::{Change, View};
use crate::container::Container;
use crate::error::{Error, Result, Step};
use crate::layer::{Budget, LayerStore};
use crate::limits::Bytes;
use crate::rootfs::Rootfs;

impl Container {
    /// Makes an image under a name: the layers of the builder, and on top of them one with everything that
    /// [`changes`](Container::changes) lists, also when the upper is in memory. An image that has the name already is
    /// replaced. The same changes make the same layer, and with the same words the same image.
    ///
    /// What differs is the difference to the layers of the container's root, so the builder should be
    /// [on](ImageBuilder::on) the image that the root is of. The layer has modes, times to the nanosecond, links, FIFOs
    /// and attributes as a layer keeps them ([`import`](LayerStore::import)); ids are those inside, and 0 for an
    /// unprivileged host. Hard links between files that are both in the layer stay. Sockets and devices are left out; if
    /// one has replaced something, that is gone. What the sandbox's mounts needed in the root is in it like all else.
    ///
    /// Programs are stopped until the changes are packed if the container is
    /// [`freezable`](crate::Sandbox::freezable). If it is not, the layer may have one file from before and another from
    /// after something that a program does meanwhile; but nothing else is read than the root's own files, and a file that
    /// is seen to change is an error.
    ///
    /// # Errors
    ///
    /// As [`changes`](Container::changes) and [`LayerStore::build`]: nothing of an image that fails is visible.
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for more bytes or entries than the
    /// [builder allows](ImageBuilder::max_bytes), and for directories that are more than 200 deep, paths of more than
    /// 4096 bytes and 1 MiB of attributes of one file; [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a name that begins
    /// with `.wh.`, which means a deletion in an archive, and for an attribute with `=` in its name; [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for a
    /// file that the program has closed to its own user, which an unprivileged host is;
    /// [`Setup`](crate::ErrorKind::Setup) for what changes while it is packed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, ImageBuilder, LayerStore, Sandbox, Upper};
    ///
    /// let store = LayerStore::open("/var/lib/judge/layers")?;
    /// let base = store.image("debian:12")?;
    /// let root = base.rootfs().upper(Upper::tmpfs(Bytes::mib(256), 100_000));
    /// let container = Sandbox::new().rootfs(root).root().start()?;
    /// container.copy_in(std::io::stdin(), "/usr/bin/judge", 0o755, Bytes::mib(64))?;
    /// let image = container.commit(&store, "judge:1", &ImageBuilder::on(&base).cmd(["/usr/bin/judge"]))?;
    /// store.export(&image, "/srv/judge-1.oci")?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn commit(&self, store: &LayerStore, name: &str, builder: &ImageBuilder) -> Result<Image> {
        let draft = Draft::start(store, name, builder, 1)?;
        let packed =
            self.runtime().read_upper(|root, ids, changes| draft.pack_changes(root, ids, changes))?;
        draft.with(packed)?.finish()
    }

    /// Writes everything that [`changes`](Container::changes) lists as an uncompressed tar archive in the
    /// [layer format](https://github.com/opencontainers/image-spec/blob/main/layer.md) of the Open Container Initiative,
    /// and returns the changes that were left out: of sockets and devices.
    ///
    /// What is deleted is an empty file `.wh.NAME`, a directory that replaces another one has a `.wh..wh..opq`. Directories
    /// above a change are members, too. Names that are longer than 100 bytes, fractions of seconds and extended attributes
    /// (`SCHILY.xattr.`) are in extended headers, as POSIX.1-2001 has them. All else is as for
    /// [`commit`](Container::commit). `limit` is for the bytes of the whole archive. Nothing that `out` waits for may be in
    /// this container: its programs stand still, and a call of it from there waits for ever.
    ///
    /// # Errors
    ///
    /// As [`changes`](Container::changes) and [`commit`](Container::commit), and failures to write. What was written
    /// until then is no archive.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Rootfs, Sandbox, Upper};
    ///
    /// let root = Rootfs::overlay(["/srv/debian"]).upper(Upper::tmpfs(Bytes::mib(64), 10_000));
    /// let container = Sandbox::new().rootfs(root).start()?;
    /// container.status(Command::new("/bin/sh").args(["-c", "rm /etc/motd; echo hello > /note"]))?;
    /// let file = std::fs::File::create("/srv/changes.tar").expect("a file can be made");
    /// container.export_tar(file, Bytes::mib(64))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn export_tar(&self, out: impl Write, limit: impl Into<Bytes>) -> Result<Vec<Change>> {
        let limit = limit.into();
        self.runtime().read_upper(|root, ids, changes| write_tar(out, limit, root, ids, changes))
    }
}

impl Rootfs {
    /// The same as [`Container::commit`] for a persistent upper, [`Upper::dir`](crate::Upper::dir), when no sandbox uses
    /// it. With ids as they are on disk, and marks as [`Rootfs::changes`] understands them.
    ///
    /// # Errors
    ///
    /// As [`Rootfs::changes`] and [`Container::commit`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{ImageBuilder, LayerStore, Upper};
    ///
    /// let store = LayerStore::open("/var/lib/judge/layers")?;
    /// let base = store.image("debian:12")?;
    /// let root = base.rootfs().upper(Upper::dir("/srv/run/upper", "/srv/run/work"));
    /// root.commit(&store, "judge:2", &ImageBuilder::on(&base))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn commit(&self, store: &LayerStore, name: &str, builder: &ImageBuilder) -> Result<Image> {
        let draft = Draft::start(store, name, builder, 1)?;
        let packed = self.read_kept(|root, ids, changes| draft.pack_changes(root, ids, changes))?;
        draft.with(packed)?.finish()
    }

    /// The same as [`Container::export_tar`] for a persistent upper, [`Upper::dir`](crate::Upper::dir), when no sandbox
    /// uses it. With ids as they are on disk, and marks as [`Rootfs::changes`] understands them.
    ///
    /// # Errors
    ///
    /// As [`Rootfs::changes`] and [`Container::export_tar`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Rootfs, Upper};
    ///
    /// let root = Rootfs::overlay(["/srv/debian"]).upper(Upper::dir("/srv/run/upper", "/srv/run/work"));
    /// let mut archive = Vec::new();
    /// root.export_tar(&mut archive, Bytes::mib(64))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn export_tar(&self, out: impl Write, limit: impl Into<Bytes>) -> Result<Vec<Change>> {
        let limit = limit.into();
        self.read_kept(|root, ids, changes| write_tar(out, limit, root, ids, changes))
    }
}

fn write_tar(
    out: impl Write,
    limit: Bytes,
    root: &OwnedFd,
    ids: &View,
    changes: Vec<Change>,
) -> Result<Vec<Change>> {
    let budget = Budget::of_archive(limit.get());
    let out = BufWriter::with_capacity(1 << 16, out);
    let (mut out, left_out) = Packer::new(out, &budget, ids).pack_changes(root, changes)?;
    out.flush().map_err(|error| Error::os(Step::Image, "writing the archive of the changes", error))?;
    Ok(left_out)
}
