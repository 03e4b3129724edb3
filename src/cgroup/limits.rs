//! What the tree of a sandbox may use, in the kernel's own units.

use std::time::Duration;

use super::cpuset::CpuSet;
use super::device::DeviceRules;
use super::io::{BlockDevice, IoMax};
use super::layout::Controller;
use super::value::bounded_quota;
use crate::error::{Error, Result};
use crate::feature::Feature;
use crate::limits::{Bytes, CpuMax};

/// Limits of everything that runs in a sandbox together, kept by the kernel's control groups.
///
/// [`Sandbox`](crate::Sandbox) has setters of the same names for those that are used most, and takes the others by
/// [`limits`](crate::Sandbox::limits). This type is also for a set of limits that is kept, passed around, or given to a
/// running sandbox with [`Container::update`](crate::Container::update). A limit that is not set is the
/// kernel's default, which is none. [`Bytes::MAX`], or `u64::MAX` for counts, lifts a limit.
///
/// Each limit belongs to a controller, which the host has in one of two hierarchies. Where that hierarchy does not have
/// the limit, planning fails with an error that names both; `docs/resources.md` has the table.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, Limits, Sandbox};
///
/// let small = Limits::new().memory_max(Bytes::mib(64)).pids_max(16);
/// let sandbox = Sandbox::new().limits(small.clone());
/// # let _ = (sandbox, small);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "limits limit nothing until a sandbox has them"]
pub struct Limits {
    pub(crate) memory_max: Option<u64>,
    pub(crate) memory_high: Option<u64>,
    pub(crate) memory_low: Option<u64>,
    pub(crate) memory_min: Option<u64>,
    pub(crate) memory_soft: Option<u64>,
    pub(crate) swappiness: Option<u32>,
    pub(crate) swap_max: Option<u64>,
    pub(crate) oom_group: bool,
    pub(crate) pids_max: Option<u64>,
    pub(crate) cpu_max: Option<CpuMax>,
    pub(crate) cpu_weight: Option<u32>,
    pub(crate) cpu_rt: Option<CpuMax>,
    pub(crate) cpuset_cpus: Option<CpuSet>,
    pub(crate) cpuset_mems: Option<CpuSet>,
    pub(crate) io_max: Vec<(BlockDevice, IoMax)>,
    pub(crate) io_weight: Option<u32>,
    pub(crate) hugetlb_max: Vec<(Bytes, u64)>,
    pub(crate) devices: Option<DeviceRules>,
    /// The sandbox can be frozen.
    pub(crate) freezable: bool,
    /// Pressure is told.
    pub(crate) pressure: bool,
    /// CPU time is measured. Set by the plan.
    pub(crate) cpu_accounting: bool,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most memory the whole tree may use, page cache and kernel memory on its behalf included; beyond it the
    /// kernel kills. Where the host swaps, limit [`swap_max`](Limits::swap_max) too. v2 `memory.max`, v1
    /// `memory.limit_in_bytes`.
    pub fn memory_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.memory_max = Some(bytes.into().get());
        self
    }

    /// The memory above which the tree is throttled and its memory reclaimed, without being killed. v2 `memory.high`;
    /// version 1 has nothing like it.
    pub fn memory_high(mut self, bytes: impl Into<Bytes>) -> Self {
        self.memory_high = Some(bytes.into().get());
        self
    }

    /// The memory that is not reclaimed from the tree while others have some that is not protected. v2 `memory.low`; the
    /// nearest in version 1 is [`memory_soft`](Limits::memory_soft).
    ///
    /// A group is protected only as far as each one above it is, by default not at all; planning fails where one protects
    /// less than this. Sandboxes that are promised more together than the group above has share that by what they use. See
    /// `memory.min` in the kernel's [cgroup v2 document](https://docs.kernel.org/admin-guide/cgroup-v2.html).
    pub fn memory_low(mut self, bytes: impl Into<Bytes>) -> Self {
        self.memory_low = Some(bytes.into().get());
        self
    }

    /// The memory that is never reclaimed from the tree; the kernel kills others rather. v2 `memory.min`, which the groups
    /// above must have as well: see [`memory_low`](Limits::memory_low).
    pub fn memory_min(mut self, bytes: impl Into<Bytes>) -> Self {
        self.memory_min = Some(bytes.into().get());
        self
    }

    /// The memory to which the tree is pushed back first when the machine runs short. v1 `memory.soft_limit_in_bytes`,
    /// version 1 only.
    pub fn memory_soft(mut self, bytes: impl Into<Bytes>) -> Self {
        self.memory_soft = Some(bytes.into().get());
        self
    }

    /// How readily the tree's memory is swapped, 0 to 200. v1 `memory.swappiness`, version 1 only.
    pub fn swappiness(mut self, value: u32) -> Self {
        self.swappiness = Some(value);
        self
    }

    /// The most swap the whole tree may use; 0 for none. v2 `memory.swap.max`, v1 `memory.memsw.limit_in_bytes`
    /// (which needs [`memory_max`](Limits::memory_max)).
    pub fn swap_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.swap_max = Some(bytes.into().get());
        self
    }

    /// When the kernel kills for memory it kills every process of the sandbox, not one of them. v2
    /// `memory.oom.group` (Linux 4.19); version 1 has nothing like it.
    pub fn oom_group(mut self) -> Self {
        self.oom_group = true;
        self
    }

    /// The most processes and threads the tree may have at once; beyond it `fork(2)` fails with `EAGAIN`. The init is
    /// not counted. `pids.max`.
    pub fn pids_max(mut self, count: u64) -> Self {
        self.pids_max = Some(count);
        self
    }

    /// How much CPU time the tree may use in each period. v2 `cpu.max`, v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
    pub fn cpu_max(mut self, max: CpuMax) -> Self {
        self.cpu_max = Some(max);
        self
    }

    /// The share of the CPU when it is contended, 1 to 10000, 100 being usual. v2 `cpu.weight`, v1 `cpu.shares`, which is
    /// `weight × 1024 / 100`.
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// How much of each period real-time processes of the tree may run. v1 `cpu.rt_runtime_us` and `cpu.rt_period_us`, on
    /// kernels with `CONFIG_RT_GROUP_SCHED`; version 1 only.
    pub fn cpu_rt(mut self, max: CpuMax) -> Self {
        self.cpu_rt = Some(max);
        self
    }

    /// The processors that the tree may run on. `cpuset.cpus`. See `cpuset(7)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Limits;
    ///
    /// let pinned = Limits::new().cpuset_cpus([2, 3]);
    /// # let _ = pinned;
    /// ```
    pub fn cpuset_cpus(mut self, cpus: impl Into<CpuSet>) -> Self {
        self.cpuset_cpus = Some(cpus.into());
        self
    }

    /// The memory nodes that the tree may allocate from. `cpuset.mems`. See `cpuset(7)`.
    pub fn cpuset_mems(mut self, nodes: impl Into<CpuSet>) -> Self {
        self.cpuset_mems = Some(nodes.into());
        self
    }

    /// How fast the tree may read from and write to a device; once for each device. v2 `io.max`, v1
    /// `blkio.throttle.*_device`.
    ///
    /// Version 1 counts a write when it reaches the device and knows whose it was only for direct and synchronous
    /// writes; version 2 knows it for buffered ones too, on filesystems that support it (ext4, btrfs, xfs).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{BlockDevice, Bytes, IoMax, Limits};
    ///
    /// let slow = Limits::new().io_max(BlockDevice::at("/srv"), IoMax::new().read(Bytes::mib(10)).write_iops(100));
    /// # let _ = slow;
    /// ```
    pub fn io_max(mut self, device: BlockDevice, max: IoMax) -> Self {
        self.io_max.retain(|(other, _)| *other != device);
        self.io_max.push((device, max));
        self
    }

    /// The share of I/O when a device is contended, 1 to 10000, 100 being usual. v2 `io.weight`, of kernels with
    /// `CONFIG_BLK_CGROUP_IOCOST`; it has an effect on devices for which the host has enabled that cost model (`io.cost.qos`
    /// of the root). v1 `blkio.bfq.weight`, which ends at 1000, for disks whose scheduler is bfq. The `io.bfq.weight` of
    /// version 2 is not set.
    pub fn io_weight(mut self, weight: u32) -> Self {
        self.io_weight = Some(weight);
        self
    }

    /// The most huge pages of one size, in bytes; beyond it a fault is `SIGBUS`. v2 `hugetlb.<size>.max`, v1
    /// `hugetlb.<size>.limit_in_bytes`.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Limits};
    ///
    /// let none = Limits::new().hugetlb_max(Bytes::mib(2), 0);
    /// # let _ = none;
    /// ```
    pub fn hugetlb_max(mut self, page_size: impl Into<Bytes>, bytes: impl Into<Bytes>) -> Self {
        let page_size = page_size.into();
        self.hugetlb_max.retain(|(other, _)| *other != page_size);
        self.hugetlb_max.push((page_size, bytes.into().get()));
        self
    }

    /// The devices that the tree may open or make, whatever files it finds. v1 `devices.deny` and `devices.allow`; on
    /// version 2 a program that the kernel runs at each access (`BPF_PROG_TYPE_CGROUP_DEVICE`), which needs root.
    pub fn devices(mut self, rules: DeviceRules) -> Self {
        self.devices = Some(rules);
        self
    }

    /// Makes the sandbox one that can be [frozen](crate::Container::freeze). v2 `cgroup.freeze` (Linux 5.2), v1
    /// `freezer.state`. With version 2 any other limit of this type makes it so as well.
    pub fn freezable(mut self) -> Self {
        self.freezable = true;
        self
    }

    /// Has the kernel tell how much time the tree [loses by waiting](crate::Container::pressure). v2 `cpu.pressure`,
    /// `memory.pressure` and `io.pressure` (Linux 4.20, `CONFIG_PSI`); version 1 has nothing like it.
    pub fn pressure(mut self) -> Self {
        self.pressure = true;
        self
    }

    /// What is set, by the names under which it can be skipped, with the controller of each.
    fn table(&self) -> [(Feature, Controller, bool); 20] {
        [
            (Feature::MemoryMax, Controller::Memory, self.memory_max.is_some()),
            (Feature::MemoryHigh, Controller::Memory, self.memory_high.is_some()),
            (Feature::MemoryLow, Controller::Memory, self.memory_low.is_some()),
            (Feature::MemoryMin, Controller::Memory, self.memory_min.is_some()),
            (Feature::MemorySoft, Controller::Memory, self.memory_soft.is_some()),
            (Feature::Swappiness, Controller::Memory, self.swappiness.is_some()),
            (Feature::SwapMax, Controller::Memory, self.swap_max.is_some()),
            (Feature::OomGroup, Controller::Memory, self.oom_group),
            (Feature::PidsMax, Controller::Pids, self.pids_max.is_some()),
            (Feature::CpuMax, Controller::Cpu, self.cpu_max.is_some()),
            (Feature::CpuWeight, Controller::Cpu, self.cpu_weight.is_some()),
            (Feature::CpuRt, Controller::Cpu, self.cpu_rt.is_some()),
            (Feature::Cpuset, Controller::Cpuset, self.cpuset_cpus.is_some() || self.cpuset_mems.is_some()),
            (Feature::IoMax, Controller::Io, !self.io_max.is_empty()),
            (Feature::IoWeight, Controller::Io, self.io_weight.is_some()),
            (Feature::HugetlbMax, Controller::Hugetlb, !self.hugetlb_max.is_empty()),
            (Feature::Devices, Controller::Devices, self.devices.is_some()),
            (Feature::Freezer, Controller::Freezer, self.freezable),
            (Feature::Pressure, Controller::Pressure, self.pressure),
            (Feature::CpuTime, Controller::CpuAcct, self.cpu_accounting),
        ]
    }

    /// What is set.
    pub(crate) fn features(&self) -> impl Iterator<Item = Feature> + use<> {
        self.table().into_iter().filter(|(_, _, set)| *set).map(|(feature, _, _)| feature)
    }

    /// The controllers it takes, in the order of [`Controller::ALL`].
    pub(crate) fn controllers(&self) -> impl Iterator<Item = Controller> + use<> {
        let table = self.table();
        Controller::ALL
            .into_iter()
            .filter(move |controller| table.iter().any(|(_, takes, set)| *set && takes == controller))
    }

    /// The longest that [`cpu_max`](Self::cpu_max) may keep a busy tree from using a millisecond of CPU time.
    ///
    /// The scheduler looks at the quota at its tick, which comes 100 times a second or more often. A tree that has run for
    /// so long beyond its quota is stopped until as many periods as that takes have paid for it; then it must be given
    /// the millisecond. The first of these periods may begin when it is stopped already.
    pub(crate) fn longest_pause(&self) -> Option<Duration> {
        const TICK_US: u64 = 10_000;
        let max = self.cpu_max?;
        let periods = 1 + (TICK_US + 1_000).div_ceil(bounded_quota(max)?);
        Some(Duration::from_micros(max.period_us().saturating_mul(periods)))
    }

    /// Whether a program is idle that uses no CPU time for so long, and not held back by [`cpu_max`](Self::cpu_max).
    ///
    /// # Errors
    ///
    /// If it may be held back, with the times that would do.
    pub(crate) fn suit_idle_time(&self, idle: Option<Duration>) -> Result<()> {
        let Some((idle, pause)) = idle.zip(self.longest_pause()).filter(|(idle, pause)| idle < pause) else {
            return Ok(());
        };
        let (idle, enough) = (idle.as_millis(), pause.as_micros().div_ceil(1000));
        let message = format!("an idle time of {idle} ms may pass while cpu_max holds a busy program back");
        Err(Error::invalid(message).with_hint(format!(
            "use idle_time({enough} ms) or more, or a cpu_max with a shorter period or, if it is less than 11 ms, a \
             larger quota"
        )))
    }

    /// Only what belongs to one feature, with what that is counted from.
    pub(crate) fn only(&self, feature: Feature) -> Self {
        let mut only = Self::default();
        only.copy(self, feature);
        if feature == Feature::SwapMax {
            only.memory_max = self.memory_max;
        }
        only
    }

    /// Takes what belongs to one feature away.
    pub(crate) fn clear(&mut self, feature: Feature) {
        self.copy(&Self::default(), feature);
    }

    /// Takes what another sets.
    pub(crate) fn merge(&mut self, other: &Self) {
        for feature in other.features() {
            match feature {
                Feature::IoMax => {
                    for (device, max) in &other.io_max {
                        *self = std::mem::take(self).io_max(device.clone(), *max);
                    }
                }
                Feature::HugetlbMax => {
                    for (page_size, bytes) in &other.hugetlb_max {
                        *self = std::mem::take(self).hugetlb_max(*page_size, *bytes);
                    }
                }
                Feature::Cpuset => {
                    self.cpuset_cpus = other.cpuset_cpus.clone().or(self.cpuset_cpus.take());
                    self.cpuset_mems = other.cpuset_mems.clone().or(self.cpuset_mems.take());
                }
                feature => self.copy(other, feature),
            }
        }
    }

    fn copy(&mut self, from: &Self, feature: Feature) {
        match feature {
            Feature::MemoryMax => self.memory_max = from.memory_max,
            Feature::MemoryHigh => self.memory_high = from.memory_high,
            Feature::MemoryLow => self.memory_low = from.memory_low,
            Feature::MemoryMin => self.memory_min = from.memory_min,
            Feature::MemorySoft => self.memory_soft = from.memory_soft,
            Feature::Swappiness => self.swappiness = from.swappiness,
            Feature::SwapMax => self.swap_max = from.swap_max,
            Feature::OomGroup => self.oom_group = from.oom_group,
            Feature::PidsMax => self.pids_max = from.pids_max,
            Feature::CpuMax => self.cpu_max = from.cpu_max,
            Feature::CpuWeight => self.cpu_weight = from.cpu_weight,
            Feature::CpuRt => self.cpu_rt = from.cpu_rt,
            Feature::Cpuset => {
                self.cpuset_cpus.clone_from(&from.cpuset_cpus);
                self.cpuset_mems.clone_from(&from.cpuset_mems);
            }
            Feature::IoMax => self.io_max.clone_from(&from.io_max),
            Feature::IoWeight => self.io_weight = from.io_weight,
            Feature::HugetlbMax => self.hugetlb_max.clone_from(&from.hugetlb_max),
            Feature::Devices => self.devices.clone_from(&from.devices),
            Feature::Freezer => self.freezable = from.freezable,
            Feature::Pressure => self.pressure = from.pressure,
            Feature::CpuTime => self.cpu_accounting = from.cpu_accounting,
            // Not limits of a tree.
            _ => {}
        }
    }

    /// Refuses values that no hierarchy can mean.
    pub(crate) fn validate(&self) -> Result<()> {
        // A box that may use nothing cannot even execute its program: that is a mistake, not a limit.
        let zeros = [
            (self.memory_max == Some(0), "a memory limit of 0 bytes"),
            (self.memory_high == Some(0), "a high memory mark of 0 bytes"),
            (self.pids_max == Some(0), "a limit of 0 processes"),
            (self.cpuset_cpus.as_ref().is_some_and(CpuSet::is_empty), "an empty set of processors"),
            (self.cpuset_mems.as_ref().is_some_and(CpuSet::is_empty), "an empty set of memory nodes"),
        ];
        if let Some((_, what)) = zeros.into_iter().find(|(is, _)| *is) {
            return Err(Error::invalid(format!("{what} lets nothing run")));
        }
        for (what, weight) in [("cpu", self.cpu_weight), ("io", self.io_weight)] {
            if let Some(weight) = weight.filter(|weight| !(1..=10_000).contains(weight)) {
                return Err(Error::invalid(format!("the {what} weight {weight} is not within 1 to 10000")));
            }
        }
        if let Some(value) = self.swappiness.filter(|value| *value > 200) {
            return Err(Error::invalid(format!("the swappiness {value} is not within 0 to 200")));
        }
        for (device, max) in &self.io_max {
            max.validate(device)?;
        }
        for (page_size, _) in &self.hugetlb_max {
            if !page_size.get().is_power_of_two() || page_size.get() < 1 << 16 {
                return Err(Error::invalid(format!("{page_size} is no size of huge pages"))
                    .with_hint("`ls /sys/kernel/mm/hugepages` shows those of this machine"));
            }
        }
        if let Some(max) = self.cpu_rt {
            let (quota_us, period_us) = (max.quota_us(), max.period_us());
            if period_us == 0 || quota_us > period_us {
                return Err(Error::invalid(format!(
                    "{quota_us} µs of real-time scheduling do not fit into a period of {period_us} µs"
                )));
            }
        }
        self.cpu_max.map_or(Ok(()), validate_cpu_max)
    }
}

fn validate_cpu_max(max: CpuMax) -> Result<()> {
    let (quota_us, period_us) = (max.quota_us(), max.period_us());
    if quota_us == 0 {
        return Err(Error::invalid("a cpu quota of 0 µs lets nothing run"));
    }
    // Both bounds are the scheduler's own (`max_cfs_quota_period`, `min_cfs_quota_period`): it answers EINVAL.
    if !(1_000..=1_000_000).contains(&period_us) {
        return Err(Error::invalid(format!("the cpu period {period_us} µs is not within 1000 to 1000000")));
    }
    if quota_us < 1_000 {
        return Err(Error::invalid(format!(
            "the cpu quota {quota_us} µs is less than 1000, the least there is"
        )));
    }
    Ok(())
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
