//! Loaded into a node's kernel before its own libraries: lets it run on processors with more extended state (AMX) than
//! it has room for.
//!
//! The kernel of user-mode-linux keeps 2,696 bytes of extended registers for each of its processes. A host whose
//! processor has more takes back nothing but all of it (`xstateregs_set` in the host's `arch/x86/kernel/fpu/regset.c`),
//! and the node dies at its first process. Where that fails, the part that the node keeps is laid over what the process
//! has, and all of it is set. What lies beyond is never lost: no process of a node is permitted to use it. It must do
//! nothing to any other call.
#![no_std]

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

const PTRACE_GETREGSET: c_uint = 0x4204;
const PTRACE_SETREGSET: c_uint = 0x4205;
const NT_X86_XSTATE: usize = 0x202;
/// Where the word lies that says which parts of an area are in use (Intel SDM volume 1, 13.4.2), and how long it is.
const IN_USE: core::ops::Range<usize> = 512..520;
/// The parts that lie within what the node keeps: up to the protection keys, and those of APX, which lie where MPX was.
const KEPT_PARTS: u64 = ((1 << 10) - 1) | (1 << 19);
/// More than any processor has: with AMX it is 11,008 bytes.
const LARGEST: usize = 64 * 1024;

#[repr(C)]
struct Area {
    base: *mut c_void,
    length: usize,
}

#[repr(C, align(64))]
struct Whole(UnsafeCell<[u8; LARGEST]>);

// SAFETY: a node's kernel has one processor, and calls `ptrace` on that one thread only.
unsafe impl Sync for Whole {}

/// Not on the stack: a kernel's stack has 16 KiB, and that of a process which is being made 4.
static WHOLE: Whole = Whole(UnsafeCell::new([0; LARGEST]));

type Ptrace = unsafe extern "C" fn(c_uint, c_int, *mut c_void, *mut c_void) -> c_long;

#[link(name = "c")]
unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn abort() -> !;
}

/// The C library's `ptrace`, but for setting less of the extended registers than there is.
///
/// # Safety
/// As ptrace(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptrace(
    request: c_uint,
    pid: c_int,
    address: *mut c_void,
    data: *mut c_void,
) -> c_long {
    // SAFETY: the arguments are the caller's own.
    unsafe {
        if request == PTRACE_SETREGSET && address as usize == NT_X86_XSTATE {
            set_extended(pid, data.cast())
        } else {
            (next())(request, pid, address, data)
        }
    }
}

/// # Safety
/// `kept` is what PTRACE_SETREGSET was given.
unsafe fn set_extended(pid: c_int, kept: *mut Area) -> c_long {
    let note = NT_X86_XSTATE as *mut c_void;
    let whole = WHOLE.0.get().cast::<u8>();
    let mut all = Area { base: whole.cast(), length: LARGEST };
    // SAFETY: `all` is as long as it says, and nobody else uses it (see `Whole`). Where as much is copied as the caller
    // gives, that is less than what was just read into `all`.
    unsafe {
        let ptrace = next();
        // The host writes to `kept` how much it took.
        let (base, length) = ((*kept).base.cast::<u8>(), (*kept).length);
        let refused = ptrace(PTRACE_SETREGSET, pid, note, kept.cast());
        if refused == 0 || length < IN_USE.end {
            return refused;
        }
        let unseen = ptrace(PTRACE_GETREGSET, pid, note, (&raw mut all).cast()) != 0;
        if unseen || all.length <= length {
            return refused;
        }
        let in_use = whole.add(IN_USE.start).cast::<u64>();
        let beyond = in_use.read() & !KEPT_PARTS;
        core::ptr::copy_nonoverlapping(base, whole, length);
        in_use.write((in_use.read() & KEPT_PARTS) | beyond);
        ptrace(PTRACE_SETREGSET, pid, note, (&raw mut all).cast())
    }
}

/// The C library's own, looked up by the first call: later ones may have a page of stack only.
fn next() -> Ptrace {
    const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let mut found = FOUND.load(Ordering::Relaxed);
    // SAFETY: the name ends with a zero, and what it names has this type (ptrace(2)).
    unsafe {
        if found.is_null() {
            found = dlsym(RTLD_NEXT, c"ptrace".as_ptr());
            if found.is_null() {
                abort();
            }
            FOUND.store(found, Ordering::Relaxed);
        }
        core::mem::transmute::<*mut c_void, Ptrace>(found)
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { abort() }
}
