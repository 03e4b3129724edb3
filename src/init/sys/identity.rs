//! What a process is and may do: namespaces, names, ids, privileges, limits, filter.

use super::{Errno, Owned, Result, address, address_mut, nr, owned, plain};

pub(crate) const CLONE_NEWTIME: usize = 0x80;
pub(crate) const CLONE_NEWNET: usize = 0x4000_0000;
pub(crate) const CLONE_NEWCGROUP: usize = 0x0200_0000;

pub(crate) fn unshare(flags: usize) -> Result<()> {
    plain(nr::UNSHARE, &[flags]).map(drop)
}

pub(crate) fn set_hostname(name: &[u8]) -> Result<()> {
    plain(nr::SETHOSTNAME, &[address(name), name.len()]).map(drop)
}

pub(crate) fn set_domain_name(name: &[u8]) -> Result<()> {
    plain(nr::SETDOMAINNAME, &[address(name), name.len()]).map(drop)
}

/// Sets the `IFF_UP` flag of `lo`. See netdevice(7).
pub(crate) fn loopback_up() -> Result<()> {
    const AF_INET: usize = 2;
    const SOCK_DGRAM_CLOEXEC: usize = 2 | 0o2_000_000;
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP_RUNNING: u8 = 0x41;
    let socket = owned(plain(nr::SOCKET, &[AF_INET, SOCK_DGRAM_CLOEXEC, 0]))?;
    let mut request = [0_u8; 40]; // struct ifreq: 16 bytes of name, then the flags as a short
    request[0] = b'l';
    request[1] = b'o';
    request[16] = IFF_UP_RUNNING;
    plain(nr::IOCTL, &[socket.fd().arg(), SIOCSIFFLAGS, address_mut(&mut request)]).map(drop)
}

/// Sends a batch of requests to the packet filter, and hears what became of it. See netlink(7).
pub(crate) fn change_packet_filter(batch: &[u8]) -> Result<()> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW_CLOEXEC_NONBLOCK: usize = 3 | 0o2_000_000 | 0o4000;
    const NETLINK_NETFILTER: usize = 12;
    const NLMSG_ERROR: u16 = 2;
    let socket = owned(plain(nr::SOCKET, &[AF_NETLINK, SOCK_RAW_CLOEXEC_NONBLOCK, NETLINK_NETFILTER]))?;
    // The kernel has carried it out, and answered, when this returns.
    super::write(socket.fd(), batch)?;
    // struct nlmsghdr: length, type, flags, sequence number, port; then 0 or a negative errno.
    let mut reply = [0_u8; 1024];
    let count = super::read(socket.fd(), &mut reply)?;
    let kind = u16::from_ne_bytes([reply[4], reply[5]]);
    let error = i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]);
    match (kind, error) {
        (NLMSG_ERROR, 0) if count >= 20 => Ok(()),
        (NLMSG_ERROR, 1..) | (_, 0) => Err(Errno::EPROTO),
        (NLMSG_ERROR, _) => Err(Errno(error.saturating_neg())),
        _ => Err(Errno::EPROTO),
    }
}

pub(crate) fn set_uid(uid: u32) -> Result<()> {
    plain(nr::SETRESUID, &[uid as usize; 3]).map(drop)
}

pub(crate) fn set_gid(gid: u32) -> Result<()> {
    plain(nr::SETRESGID, &[gid as usize; 3]).map(drop)
}

pub(crate) fn clear_groups() -> Result<()> {
    plain(nr::SETGROUPS, &[0, 0]).map(drop)
}

/// Real, effective and saved user id, then the same of the group.
pub(crate) fn ids() -> Result<[u32; 6]> {
    let mut ids = [0_u32; 6];
    let base = address_mut(&mut ids);
    plain(nr::GETRESUID, &[base, base + 4, base + 8])?;
    plain(nr::GETRESGID, &[base + 12, base + 16, base + 20])?;
    Ok(ids)
}

pub(crate) const PR_SET_DUMPABLE: usize = 4;
pub(crate) const PR_SET_KEEPCAPS: usize = 8;
pub(crate) const PR_CAPBSET_READ: usize = 23;
pub(crate) const PR_CAPBSET_DROP: usize = 24;
pub(crate) const PR_SET_SECUREBITS: usize = 28;
pub(crate) const PR_SET_CHILD_SUBREAPER: usize = 36;
pub(crate) const PR_SET_NO_NEW_PRIVS: usize = 38;
pub(crate) const PR_GET_NO_NEW_PRIVS: usize = 39;
pub(crate) const PR_CAP_AMBIENT: usize = 47;
pub(crate) const PR_CAP_AMBIENT_IS_SET: usize = 1;
pub(crate) const PR_CAP_AMBIENT_RAISE: usize = 2;
pub(crate) const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;

/// `prctl(2)` with plain numbers: none of the options above takes a pointer.
pub(crate) fn prctl(option: usize, a: usize, b: usize) -> Result<usize> {
    plain(nr::PRCTL, &[option, a, b, 0, 0])
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets permitted and effective to `keep` and inheritable to `inheritable`.
pub(crate) fn set_capabilities(keep: u64, inheritable: u64) -> Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let (low, high) = (keep as u32, (keep >> 32) as u32);
    let data = [low, low, inheritable as u32, high, high, (inheritable >> 32) as u32]; // effective, permitted, inheritable, twice
    plain(nr::CAPSET, &[address(&header), address(&data)]).map(drop)
}

/// Sets the effective set alone, to some of what is permitted.
pub(crate) fn set_effective(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let low = [effective as u32, permitted as u32, inheritable as u32];
    let high = [(effective >> 32) as u32, (permitted >> 32) as u32, (inheritable >> 32) as u32];
    plain(nr::CAPSET, &[address(&header), address(&[low, high])]).map(drop)
}

/// Sets the ids that count for files, and returns what they were. They are as asked for, or it is an error.
pub(crate) fn set_file_ids(uid: u32, gid: u32) -> Result<[u32; 2]> {
    // setfsuid(2) says what was in force before, and never that it failed.
    let set = |number, id: u32| {
        let before = plain(number, &[id as usize])? as u32;
        if plain(number, &[id as usize])? as u32 == id { Ok(before) } else { Err(Errno::EPERM) }
    };
    let group = set(nr::SETFSGID, gid)?;
    Ok([set(nr::SETFSUID, uid)?, group])
}

/// The effective, permitted and inheritable sets.
pub(crate) fn capabilities() -> Result<[u64; 3]> {
    let mut header = [CAPABILITY_VERSION_3, 0];
    let mut data = [0_u32; 6];
    plain(nr::CAPGET, &[address_mut(&mut header), address_mut(&mut data)])?;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok([join(data[0], data[3]), join(data[1], data[4]), join(data[2], data[5])])
}

pub(crate) fn set_session() -> Result<()> {
    plain(nr::SETSID, &[]).map(drop)
}

pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    plain(nr::PRLIMIT64, &[0, resource as usize, address(&limit), 0]).map(drop)
}

/// Joins a new session keyring. On a kernel without keys there is none to be shared.
pub(crate) fn join_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    match plain(nr::KEYCTL, &[KEYCTL_JOIN_SESSION_KEYRING, 0]) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes a core scheduling cookie for this process: see prctl(2), PR_SCHED_CORE.
pub(crate) fn make_core_cookie() -> Result<()> {
    const PR_SCHED_CORE: usize = 62;
    const CREATE: usize = 1;
    const THREAD_GROUP: usize = 1;
    plain(nr::PRCTL, &[PR_SCHED_CORE, CREATE, 0, THREAD_GROUP, 0]).map(drop)
}

/// Installs a filter for this task. The bytes are whole `struct sock_filter`s.
pub(crate) fn install_filter(program: &[u8]) -> Result<()> {
    filter(program, 0).map(drop)
}

/// The same, and makes the listener that hears of its `SECCOMP_RET_USER_NOTIF`.
pub(crate) fn install_listening_filter(program: &[u8]) -> Result<Owned> {
    const NEW_LISTENER: usize = 1 << 3;
    // Linux 5.19. Without it a signal can take a call back that was received already, and it is made again.
    const WAIT_KILLABLE_RECV: usize = 1 << 5;
    match filter(program, NEW_LISTENER | WAIT_KILLABLE_RECV) {
        Err(Errno::EINVAL) => owned(filter(program, NEW_LISTENER)),
        listener => owned(listener),
    }
}

fn filter(program: &[u8], flags: usize) -> Result<usize> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const INSTRUCTION: usize = 8;
    #[repr(C)]
    struct Fprog {
        length: u16,
        filter: usize,
    }
    let count = program.len() / INSTRUCTION;
    if count == 0 || program.len() % INSTRUCTION != 0 {
        return Err(Errno::EINVAL);
    }
    let fprog = Fprog { length: u16::try_from(count).map_err(|_| Errno::EINVAL)?, filter: address(program) };
    plain(nr::SECCOMP, &[SECCOMP_SET_MODE_FILTER, flags, address(&fprog)])
}
