//! `[limits]`, which stands for [`Limits`].

use super::node::Value;
use super::read::{Call, Item, Setter};
use super::units;
use super::write::{Out, text};
use crate::cgroup::{BlockDevice, CpuSet, DeviceRules, IoMax, Limits};
use crate::error::{Error, Result};
use crate::limits::{Bytes, CpuMax};

pub(super) const KEYS: [&str; 20] = [
    "memory_max",
    "memory_high",
    "memory_low",
    "memory_min",
    "memory_soft",
    "swappiness",
    "swap_max",
    "oom_group",
    "pids_max",
    "cpu_max",
    "cpu_weight",
    "cpu_rt",
    "cpuset_cpus",
    "cpuset_mems",
    "io_max",
    "io_weight",
    "hugetlb_max",
    "devices",
    "freezable",
    "pressure",
];
pub(super) const CPU_KEYS: [&str; 2] = ["quota", "period"];
pub(super) const IO_KEYS: [&str; 5] = ["device", "read", "write", "read_iops", "write_iops"];
pub(super) const HUGETLB_KEYS: [&str; 2] = ["page_size", "bytes"];
pub(super) const DEVICES_KEYS: [&str; 2] = ["minimal", "allow"];

pub(super) fn read(item: Item) -> Result<Limits> {
    let mut table = item.table(&KEYS)?;
    let sizes: [Setter<Limits, Bytes>; 6] = [
        ("memory_max", Limits::memory_max),
        ("memory_high", Limits::memory_high),
        ("memory_low", Limits::memory_low),
        ("memory_min", Limits::memory_min),
        ("memory_soft", Limits::memory_soft),
        ("swap_max", Limits::swap_max),
    ];
    let numbers: [Setter<Limits, u32>; 3] = [
        ("swappiness", Limits::swappiness),
        ("cpu_weight", Limits::cpu_weight),
        ("io_weight", Limits::io_weight),
    ];
    let flags: [Call<Limits>; 3] =
        [("oom_group", Limits::oom_group), ("freezable", Limits::freezable), ("pressure", Limits::pressure)];
    let sets: [Setter<Limits, CpuSet>; 2] =
        [("cpuset_cpus", Limits::cpuset_cpus), ("cpuset_mems", Limits::cpuset_mems)];
    let mut limits = table.set(Limits::new(), |item| item.size(), &sizes)?;
    limits = table.set(limits, |item| item.number(), &numbers)?;
    limits = table.call(limits, &flags)?;
    limits = table.set(limits, cpu_max, &[("cpu_max", Limits::cpu_max), ("cpu_rt", Limits::cpu_rt)])?;
    limits = table.set(limits, read_set, &sets)?;
    limits = table.set(limits, |item| item.count(), &[("pids_max", Limits::pids_max)])?;
    limits = table.set(limits, devices, &[("devices", Limits::devices)])?;
    limits = table.each(limits, io_max, ("io_max", |limits, (device, max)| limits.io_max(device, max)))?;
    table.each(
        limits,
        of_pages,
        ("hugetlb_max", |limits, (page_size, bytes)| limits.hugetlb_max(page_size, bytes)),
    )
}

fn of_pages(item: Item) -> Result<(Bytes, Bytes)> {
    let mut table = item.table(&HUGETLB_KEYS)?;
    Ok((table.need("page_size")?.size()?, table.need("bytes")?.size()?))
}

fn cpu_max(item: Item) -> Result<CpuMax> {
    let cpus = match *item.value() {
        Value::Table(_) => None,
        // Exact below 2^53, and no machine has more processors.
        #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 processors")]
        Value::Integer(number) => Some(number as f64),
        Value::Decimal(number) => Some(number),
        _ => return Err(item.wrong("is no share of processors", CPU_HINT)),
    };
    match cpus {
        Some(cpus) if cpus.is_finite() && cpus > 0.0 && cpus < 1e9 => Ok(CpuMax::cpus(cpus)),
        Some(_) => Err(item.wrong("is no number of processors", CPU_HINT)),
        None => {
            let mut table = item.table(&CPU_KEYS)?;
            let quota = table.need("quota")?;
            let quota = match quota.value() {
                Value::Text(text) if text == units::MAX => std::time::Duration::MAX,
                _ => quota.duration()?,
            };
            Ok(CpuMax::new(quota, table.need("period")?.duration()?))
        }
    }
}

const CPU_HINT: &str =
    "write a number of processors, such as 0.5 or 2, or { quota = \"50ms\", period = \"100ms\" }";

fn of_cpu_max(max: CpuMax) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "what is not exact is written in full")]
    let cpus = max.quota_us() as f64 / 100_000.0;
    if cpus > 0.0 && cpus < 1e9 && CpuMax::cpus(cpus) == max {
        let whole = max.quota_us() % 100_000 == 0;
        return if whole { i128::from(max.quota_us() / 100_000).into() } else { Value::Decimal(cpus) };
    }
    let time = |us| units::of_duration(std::time::Duration::from_micros(us));
    let mut out = Out::default();
    out.put("quota", if max.quota_us() == u64::MAX { units::MAX.into() } else { time(max.quota_us()) });
    out.put("period", time(max.period_us()));
    out.into()
}

pub(super) fn read_set(item: Item) -> Result<CpuSet> {
    match item.value() {
        Value::Text(text) => text.parse().map_err(|error| item.explain(&error)),
        _ => Err(item.wrong("is no list of numbers in a string", "write it like \"0-3,8\"")),
    }
}

/// # Errors
///
/// For numbers that no text of a set may have.
pub(super) fn write_set(key: &str, set: &CpuSet) -> Result<Value> {
    let text = set.to_string();
    match text.parse::<CpuSet>() {
        Ok(read) if read == *set => Ok(text.into()),
        _ => Err(Error::invalid(format!("{key} of the policy has a number that is too large: {text}"))
            .with_hint("no kernel has so many processors")),
    }
}

fn devices(item: Item) -> Result<DeviceRules> {
    let mut table = item.table(&DEVICES_KEYS)?;
    let rules = table.call(DeviceRules::none(), &[("minimal", |_| DeviceRules::minimal())])?;
    let lines = table.take("allow").map_or(Ok(Vec::new()), Item::some)?;
    lines.into_iter().try_fold(rules, |rules, item| {
        let added = match item.value() {
            Value::Text(line) => rules.allow_line(line),
            _ => None,
        };
        added.ok_or_else(|| {
            item.wrong(
                "is no rule about a device",
                "write it like \"c 10:232 rw\": b or c, the numbers, then r, w, m",
            )
        })
    })
}

fn of_devices(rules: &DeviceRules) -> Value {
    let mut out = Out::default();
    let lines: Vec<String> = rules.lines().collect();
    let minimal: Vec<String> = DeviceRules::minimal().lines().collect();
    let rest = lines.strip_prefix(minimal.as_slice());
    out.flag("minimal", rest.is_some());
    out.some("allow", rest.unwrap_or(&lines).iter().map(|line| line.as_str().into()).collect());
    out.into()
}

fn io_max(item: Item) -> Result<(BlockDevice, IoMax)> {
    let mut table = item.table(&IO_KEYS)?;
    let device = BlockDevice::at(table.need("device")?.path()?);
    let rates: [Setter<IoMax, Bytes>; 2] = [("read", IoMax::read), ("write", IoMax::write)];
    let operations =
        [("read_iops", IoMax::read_iops as fn(IoMax, u64) -> IoMax), ("write_iops", IoMax::write_iops)];
    let max = table.set(IoMax::new(), |item| item.size(), &rates)?;
    Ok((device, table.set(max, |item| item.count(), &operations)?))
}

/// An empty table if nothing is limited.
pub(super) fn write(limits: &Limits) -> Result<Out> {
    // A field that is not written would be lost: each must have its name here.
    let Limits {
        memory_max: _,
        memory_high: _,
        memory_low: _,
        memory_min: _,
        memory_soft: _,
        swappiness: _,
        swap_max: _,
        oom_group: _,
        pids_max: _,
        cpu_max: _,
        cpu_weight: _,
        cpu_rt: _,
        cpuset_cpus: _,
        cpuset_mems: _,
        io_max: _,
        io_weight: _,
        hugetlb_max: _,
        devices: _,
        freezable: _,
        pressure: _,
        // Set by the plan.
        cpu_accounting: _,
    } = limits;
    let size = |bytes: Option<u64>| bytes.map(|bytes| units::of_size(Bytes::new(bytes)));
    let mut out = Out::default();
    out.maybe("memory_max", size(limits.memory_max));
    out.maybe("memory_high", size(limits.memory_high));
    out.maybe("memory_low", size(limits.memory_low));
    out.maybe("memory_min", size(limits.memory_min));
    out.maybe("memory_soft", size(limits.memory_soft));
    out.maybe("swappiness", limits.swappiness.map(i128::from));
    out.maybe("swap_max", size(limits.swap_max));
    out.flag("oom_group", limits.oom_group);
    out.maybe("pids_max", limits.pids_max.map(units::of_count));
    out.maybe("cpu_max", limits.cpu_max.map(of_cpu_max));
    out.maybe("cpu_weight", limits.cpu_weight.map(i128::from));
    out.maybe("cpu_rt", limits.cpu_rt.map(of_cpu_max));
    for (key, set) in [("cpuset_cpus", &limits.cpuset_cpus), ("cpuset_mems", &limits.cpuset_mems)] {
        if let Some(set) = set {
            out.put(key, write_set(key, set)?);
        }
    }
    out.maybe("io_weight", limits.io_weight.map(i128::from));
    out.flag("freezable", limits.freezable);
    out.flag("pressure", limits.pressure);
    out.maybe("devices", limits.devices.as_ref().map(of_devices));
    let mut disks = Vec::new();
    for (device, max) in &limits.io_max {
        let IoMax { read_bytes, write_bytes, read_operations, write_operations } = *max;
        let mut of_disk = Out::default();
        of_disk.put("device", text("limits.io_max.device", device.path())?);
        of_disk.maybe("read", size(read_bytes));
        of_disk.maybe("write", size(write_bytes));
        of_disk.maybe("read_iops", read_operations.map(units::of_count));
        of_disk.maybe("write_iops", write_operations.map(units::of_count));
        disks.push(of_disk.into());
    }
    out.some("io_max", disks);
    let of_pages = |(page_size, bytes): &(Bytes, u64)| {
        let mut of_size = Out::default();
        of_size.put("page_size", units::of_size(*page_size));
        of_size.put("bytes", units::of_size(Bytes::new(*bytes)));
        of_size.into()
    };
    out.some("hugetlb_max", limits.hugetlb_max.iter().map(of_pages).collect());
    Ok(out)
}
