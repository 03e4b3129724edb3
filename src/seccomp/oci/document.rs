//! The format as it is written. Keys that are not known are errors: a condition that is not read is not kept.

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    pub(super) default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_errno_ret: Option<u32>,
    /// The same by name, as Podman writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_errno: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) architectures: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arch_map: Option<Vec<Architecture>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listener_metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) syscalls: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Architecture {
    pub(super) architecture: String,
    pub(super) sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Vec<String>>,
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Argument>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) includes: Option<Filter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) excludes: Option<Filter>,
}

#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Argument {
    pub(super) index: u8,
    pub(super) value: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_two: Option<u64>,
    pub(super) op: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) caps: Option<Vec<String>>,
    pub(super) arches: Option<Vec<String>>,
    pub(super) min_kernel: Option<String>,
}
