//! Every reader of the project, and the test that feeds it hostile input. A newcomer sees here what is covered; a test
//! compares the table with the sources, so that a reader without a line is noticed.

/// Something that makes values of bytes or text that this program has not made itself in this run.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// What it reads.
    pub reads: &'static str,
    /// The file that it is in.
    pub file: &'static str,
    /// Its test: `FILE::NAME`.
    pub test: &'static str,
}

const fn reader(reads: &'static str, file: &'static str, test: &'static str) -> Reader {
    Reader { reads, file, test }
}

/// All of them, by where their input comes from.
pub const READERS: &[Reader] = &[
    // Tools and the kernel, on a node.
    reader(
        "`lvs --reportformat json`",
        "satellite/src/host/lvm/report.rs",
        "satellite/src/host/lvm/report.rs::hostile_reports_of_volumes",
    ),
    reader(
        "`vgs --reportformat json`",
        "satellite/src/host/lvm/report.rs",
        "satellite/src/host/lvm/report.rs::hostile_reports_of_groups",
    ),
    reader(
        "`losetup --list --json`",
        "satellite/src/host/directory/loop_devices.rs",
        "satellite/src/host/directory/loop_devices.rs::hostile_lists_of_loop_devices",
    ),
    reader(
        "marks of files",
        "satellite/src/host/directory/files.rs",
        "satellite/src/host/directory/files.rs::hostile_marks_of_files",
    ),
    reader(
        "percentages of LVM and DRBD",
        "satellite/src/host/percentage.rs",
        "satellite/src/host/percentage.rs::hostile_percentages",
    ),
    reader(
        "`drbdsetup events2 --now`",
        "satellite/src/host/drbd/events2.rs",
        "satellite/src/host/drbd/events2_tests.rs::hostile_dumps",
    ),
    reader(
        "`drbdsetup events2`, line by line",
        "satellite/src/host/drbd/events2.rs",
        "satellite/src/host/drbd/events2_tests.rs::hostile_changes",
    ),
    reader(
        "DRBD's superblock",
        "satellite/src/host/drbd/metadata.rs",
        "satellite/src/host/drbd/metadata.rs::hostile_superblocks",
    ),
    reader(
        "the fingerprint in a `.res` file",
        "satellite/src/host/drbd/configuration.rs",
        "satellite/src/host/drbd/files.rs::hostile_configurations",
    ),
    reader("`dmsetup info`", "satellite/src/host/gate.rs", "satellite/src/host/gate.rs::hostile_open_counts"),
    reader(
        "maps in `/sys/block`",
        "satellite/src/host/devices.rs",
        "satellite/src/host/devices.rs::hostile_files_of_a_map",
    ),
    reader(
        "device numbers",
        "satellite/src/host/devices.rs",
        "satellite/src/host/devices.rs::hostile_device_numbers",
    ),
    reader(
        "`/proc/net/tcp`",
        "satellite/src/host/numbers.rs",
        "satellite/src/host/numbers.rs::hostile_tables_of_sockets",
    ),
    reader(
        "`ip_local_reserved_ports`",
        "satellite/src/host/numbers.rs",
        "satellite/src/host/numbers.rs::hostile_lists_of_reserved_ports",
    ),
    reader(
        "`/proc/PID/mountinfo`",
        "satellite/src/host/openers/mounts.rs",
        "satellite/src/host/openers/mounts.rs::hostile_mount_tables",
    ),
    reader(
        "octal escapes of the kernel",
        "satellite/src/host/openers/mounts.rs",
        "satellite/src/host/openers/mounts.rs::hostile_names_come_back_from_their_escapes",
    ),
    reader(
        "`/proc/PID/task`",
        "satellite/src/host/openers/processes.rs",
        "satellite/src/host/openers_tests.rs::hostile_files_of_a_process",
    ),
    reader(
        "loop devices, swap, targets, NFS exports",
        "satellite/src/host/openers/kernel_users.rs",
        "satellite/src/host/openers_tests.rs::hostile_files_of_what_the_kernel_has_open",
    ),
    reader(
        "`/proc/drbd`",
        "satellite/src/fence/helper.rs",
        "satellite/src/fence/helper.rs::hostile_contents_of_proc_drbd",
    ),
    reader(
        "the environment of a DRBD handler",
        "satellite/src/fence/helper.rs",
        "satellite/src/fence/helper.rs::hostile_environments",
    ),
    // Disks.
    reader(
        "the sealed files of a ledger",
        "satellite/src/ledger/file.rs",
        "satellite/src/ledger/file.rs::a_file_cut_or_flipped_at_any_byte_is_refused",
    ),
    reader(
        "a whole ledger",
        "satellite/src/ledger/mod.rs",
        "satellite/src/ledger/tests.rs::a_ledger_with_any_byte_damaged_is_not_opened",
    ),
    reader(
        "facts of a ledger",
        "satellite/src/ledger/facts.rs",
        "satellite/src/ledger/facts.rs::hostile_facts",
    ),
    reader(
        "parts of a log entry",
        "controller/src/consensus/sled_engine.rs",
        "controller/src/consensus/hostile_tests.rs::a_part_of_an_entry_with_any_byte_damaged_is_refused",
    ),
    reader(
        "sled's own file",
        "controller/src/consensus/sled_engine.rs",
        "controller/tests/engine_damage.rs::a_bit_that_flips_in_sleds_own_file_is_never_a_shorter_log",
    ),
    reader(
        "entries of the log",
        "controller/src/consensus/verify.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_entries_are_what_they_say_or_refused_by_their_index",
    ),
    reader(
        "the members in an entry or a snapshot",
        "controller/src/consensus/codec.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_members",
    ),
    reader(
        "the witness of the log",
        "controller/src/consensus/witness.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_witnesses_never_say_that_the_log_was_longer",
    ),
    reader(
        "snapshots",
        "proto/src/snapshot_file.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_snapshots_are_never_read_as_another_state",
    ),
    reader(
        "the records of a snapshot",
        "controller/state/src/state.rs",
        "controller/state/src/sequences.rs::records_that_are_no_snapshot_are_refused_or_loaded_but_never_panic",
    ),
    reader(
        "the order to make a store",
        "controller/src/consensus/store_order.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_orders_to_make_a_store_are_refused_by_their_file",
    ),
    reader(
        "the restore record in such an order",
        "controller/src/consensus/restored_store.rs",
        "controller/src/consensus/hostile_tests.rs::hostile_restore_records_name_a_store_or_are_refused_by_the_order",
    ),
    reader("backups", "cli/src/cluster/backup_file.rs", "cli/src/cluster/backup_file.rs::hostile_backups"),
    reader(
        "whose a store is",
        "controller/src/consensus/store_order.rs",
        "proto/tests/messages.rs::hostile_identities_of_stores",
    ),
    reader(
        "certificates and keys",
        "process/src/tls/identity.rs",
        "process/src/tls/identity.rs::hostile_files_of_an_identity_are_refused_or_the_holders_own",
    ),
    reader(
        "signatures of a restore",
        "process/src/tls/restore.rs",
        "process/src/tls/restore.rs::hostile_signatures",
    ),
    reader(
        "the certificate that recognises them",
        "process/src/tls/restore.rs",
        "process/src/tls/restore.rs::hostile_certificates_recognise_nobody_elses_signature",
    ),
    reader(
        "an authority's files",
        "process/src/tls/authority.rs",
        "process/src/tls/authority.rs::hostile_files_of_an_authority",
    ),
    // The network.
    reader(
        "the holder in a certificate",
        "process/src/tls/peer.rs",
        "process/src/tls/peer.rs::hostile_certificates_speak_for_nobody_that_they_do_not_name",
    ),
    reader(
        "the name of a holder",
        "process/src/tls/peer.rs",
        "process/src/tls/peer.rs::hostile_names_of_holders",
    ),
    reader("roles", "process/src/tls/role.rs", "process/src/tls/role.rs::hostile_roles"),
    reader(
        "paths of calls",
        "controller/src/api/authorization.rs",
        "controller/src/api/authorization.rs::hostile_paths_open_no_service_of_another_role",
    ),
    reader(
        "headers of relayed calls",
        "controller/src/api/caller.rs",
        "controller/src/api/caller.rs::hostile_headers_never_make_a_controller_of_anybody",
    ),
    reader(
        "whether a list may be stale",
        "controller/src/api/relay.rs",
        "controller/src/api/relay.rs::hostile_list_requests_are_left_to_the_service",
    ),
    reader(
        "tokens of pages",
        "controller/src/api/pages.rs",
        "controller/src/api/pages.rs::hostile_tokens_of_pages",
    ),
    reader(
        "Raft's requests",
        "controller/src/consensus/server.rs",
        "proto/tests/messages.rs::hostile_raft_requests",
    ),
    reader(
        "commands",
        "controller/state/src/apply/mod.rs",
        "controller/state/src/sequences.rs::garbage_is_refused_and_never_panics",
    ),
    reader(
        "what satellites say",
        "controller/src/leader/session.rs",
        "proto/tests/messages.rs::hostile_words_of_satellites",
    ),
    reader(
        "reports",
        "controller/src/leader/observed/node.rs",
        "controller/src/leader/observed/table.rs::hostile_reports_speak_only_of_their_own_node",
    ),
    reader(
        "what controllers say",
        "satellite/src/link.rs",
        "proto/tests/messages.rs::hostile_words_of_controllers",
    ),
    reader("restore records", "satellite/src/restore.rs", "satellite/src/restore.rs::hostile_records"),
    reader(
        "desired documents, as accepted",
        "satellite/src/ledger/mod.rs",
        "satellite/src/ledger/tests.rs::hostile_documents_change_nothing_unless_they_are_newer_ones_for_this_node",
    ),
    reader(
        "desired documents, as planned",
        "satellite/plan/src/desired.rs",
        "satellite/plan/tests/plans/hostile.rs::hostile_documents",
    ),
    reader(
        "details of a refusal",
        "client/src/verdict.rs",
        "client/src/verdict.rs::hostile_details_of_refusals",
    ),
    reader(
        "questions on the fence socket",
        "satellite/src/fence/socket.rs",
        "satellite/src/fence/question.rs::hostile_questions",
    ),
    reader(
        "answers on the fence socket",
        "satellite/src/fence/helper.rs",
        "satellite/src/fence/question.rs::only_a_whole_answer_lets_a_primary_go_on",
    ),
    // People and their files.
    reader("any TOML", "process/src/configuration.rs", "process/src/configuration.rs::hostile_files"),
    reader("controller.toml", "controller/src/config.rs", "controller/src/config.rs::hostile_configurations"),
    reader(
        "satellite.toml",
        "satellite/src/configuration.rs",
        "satellite/src/configuration.rs::hostile_configurations",
    ),
    reader("client.toml", "cli/src/configuration.rs", "cli/src/configuration.rs::hostile_configurations"),
    reader("command lines", "cli/src/arguments.rs", "cli/src/arguments.rs::hostile_command_lines"),
    reader(
        "lines that are being completed",
        "cli/src/completion.rs",
        "cli/src/completion.rs::hostile_lines_that_are_being_typed",
    ),
    reader("durations", "cli/src/arguments.rs", "cli/src/arguments.rs::hostile_durations"),
    reader("sizes", "proto/src/sizes.rs", "proto/src/sizes.rs::hostile_sizes"),
    reader("ranges of minors and ports", "proto/src/numbers.rs", "proto/src/numbers.rs::hostile_ranges"),
    reader(
        "names",
        "proto/src/names.rs",
        "proto/src/names.rs::hostile_names_that_pass_need_no_quotes_anywhere",
    ),
    reader(
        "addresses and options",
        "proto/src/names.rs",
        "proto/src/names.rs::hostile_addresses_and_options",
    ),
    reader("KEY=VALUE", "cli/src/noun/mod.rs", "cli/src/noun/mod.rs::hostile_keys_and_values"),
    reader("the end of `hawser events`", "cli/src/events.rs", "cli/src/events.rs::hostile_ends"),
    reader("the column of --sort", "cli/src/output/order.rs", "cli/src/output/order.rs::hostile_columns"),
    reader("VG/THINPOOL", "cli/src/noun/pool.rs", "cli/src/noun/pool.rs::hostile_thin_pools"),
    reader("NAME=IP", "cli/src/noun/node.rs", "cli/src/noun/node.rs::hostile_addresses"),
    reader("NAME=HOST:PORT", "cli/src/cluster/init.rs", "cli/src/cluster/init.rs::hostile_controllers"),
    // The lab.
    reader(
        "requests",
        "tests/lab/src/wire/lines.rs",
        "tests/lab/src/wire/lines.rs::hostile_requests_end_where_their_line_does",
    ),
    reader(
        "frames of a running command",
        "tests/lab/src/wire/frames.rs",
        "tests/lab/src/wire/frames.rs::hostile_frames",
    ),
    reader(
        "Ethernet frames",
        "tests/lab/src/network/fabric.rs",
        "tests/lab/src/network/fabric.rs::hostile_frames_go_to_ports_that_are_there_and_never_back",
    ),
    reader(
        "what a node boots with",
        "tests/lab/src/guest/configuration.rs",
        "tests/lab/src/guest/configuration.rs::hostile_configurations",
    ),
    reader(
        "`hawser -o json`",
        "tests/lab/src/cluster/administrator.rs",
        "tests/lab/src/cluster/administrator.rs::hostile_answers_of_the_command_line",
    ),
];

/// Files that look as if they read something, and why that needs no such test.
pub const NOT_READERS: &[(&str, &str)] = &[
    ("cli/src/cluster/certificate.rs", "a role, which process/src/tls/role.rs reads"),
    ("controller/state/src/apply/node.rs", "compares addresses that were checked when they were stored"),
    (
        "satellite/src/host/command.rs",
        "hands on at most 4 MiB of a tool's words; its parsers are listed above",
    ),
    ("satellite/src/host/drbd/files.rs", "names of its own files; whatever else lies there is left alone"),
    ("tests/lab/src/cluster/mod.rs", "shows a program's words to a person"),
    ("tests/lab/src/daemon/mod.rs", "the options that the same program wrote when the lab was made"),
    ("tests/lab/src/disk.rs", "shows a program's words to a person"),
    ("tests/lab/src/guest/system.rs", "shows a program's words to a person"),
    ("tests/lab/src/lab.rs", "shows a program's words to a person"),
    ("tests/lab/src/machine/disks.rs", "shows a program's words to a person"),
    ("tests/lab/src/machine/node.rs", "shows a program's words to a person"),
    ("tests/lab/src/setup.rs", "shows a program's words to a person"),
];
