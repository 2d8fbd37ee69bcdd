//! TensorBoard's HParamsPluginData (tensorboard/plugins/hparams/plugin_data.proto), with SessionStartInfo as the one
//! message that a session needs. tensorboard-proto does not have it; the field numbers below are that file's.

use std::collections::BTreeMap;

use protobuf::CodedOutputStream;
use serde_json::Value;

/// HParamsPluginData: version = 1 (field 1 is 0, the default), session_start_info = 3.
pub fn session_start(group: &str, settings: &BTreeMap<String, Value>) -> anyhow::Result<Vec<u8>> {
    let info = message(|out| {
        for (key, value) in settings {
            // map<string, google.protobuf.Value> hparams = 1
            let entry = message(|out| {
                out.write_string(1, key)?;
                out.write_bytes(2, &protobuf_value(value)?)
            })?;
            out.write_bytes(1, &entry)?;
        }
        out.write_string(4, group) // group_name
    })?;
    Ok(message(|out| out.write_bytes(3, &info))?)
}

/// google.protobuf.Value: number_value = 2, string_value = 3, bool_value = 4; lists and null as their JSON.
fn protobuf_value(value: &Value) -> protobuf::ProtobufResult<Vec<u8>> {
    message(|out| match value {
        Value::Number(number) => out.write_double(2, number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => out.write_string(3, text),
        Value::Bool(flag) => out.write_bool(4, *flag),
        other => out.write_string(3, &other.to_string()),
    })
}

fn message(
    write: impl FnOnce(&mut CodedOutputStream<'_>) -> protobuf::ProtobufResult<()>,
) -> protobuf::ProtobufResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut out = CodedOutputStream::vec(&mut bytes);
    write(&mut out)?;
    out.flush()?;
    drop(out);
    Ok(bytes)
}
