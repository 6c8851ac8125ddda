/* Makes a process believe that it runs on an older x64 CPU, so that onnxruntime chooses the kernels for that CPU.

       gcc -O1 -shared -fPIC bench/older_cpu.c -o older_cpu.so
       CPU=avx2 LD_PRELOAD=./older_cpu.so python -m siglip_edge.bench.operators MODEL

   CPU=avx512: no VNNI, no AMX. CPU=avx2: no AVX-512 and no AVX-VNNI either. Linux. Every CPUID instruction raises a
   signal; the handler runs it and clears some bits. On CPUs without CPUID faulting (`cpuid_fault` in /proc/cpuinfo)
   only onnxruntime sees the older CPU, in a copy that `bench/older_cpu.py` makes:

       python -m siglip_edge.bench.older_cpu /tmp/older
       CPU=avx2 LD_PRELOAD=./older_cpu.so PYTHONPATH=/tmp/older python -m siglip_edge.bench.operators MODEL

   A test: with CPU=avx2, U8S8 products of whole 8-bit weights saturate and are wrong, products of limited weights are
   exact (docs/decisions/int8-number-format.md).
   /proc/cpuinfo does not change, so runtime/machine/cpu.py still reads the features of the real CPU. */

#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Leaf 7 of CPUID: bits by register. */
#define AVX512_B (1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31) /* F, DQ, IFMA, CD, BW, VL */
#define AVX512_C (1u << 1 | 1u << 6 | 1u << 12 | 1u << 14)                        /* VBMI, VBMI2, BITALG, POPCNT */
#define VNNI_C (1u << 11)
#define AMX_D (1u << 22 | 1u << 24 | 1u << 25)
#define VNNI_1A (1u << 4 | 1u << 5) /* subleaf 1: AVX-VNNI, AVX512-BF16 */

static int without_avx512;
static int faulting; /* whether the CPU itself raises SIGSEGV for CPUID; else UD2 in its place raises SIGILL */

static void answer(int signal_number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
  if (instruction[0] != 0x0f || instruction[1] != (signal_number == SIGILL ? 0x0b : 0xa2)) {
    signal(signal_number, SIG_DFL); /* a real fault, which happens again after the return */
    return;
  }
  unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
  if (faulting) syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __cpuid_count(leaf, subleaf, a, b, c, d);
  if (faulting) syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && subleaf == 0) {
    c &= ~VNNI_C;
    d &= ~AMX_D;
    if (without_avx512) {
      b &= ~AVX512_B;
      c &= ~AVX512_C;
    }
  }
  if (leaf == 7 && subleaf == 1) a &= ~VNNI_1A;
  registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
  (void)info;
}

__attribute__((constructor)) static void start(void) {
  const char *wanted = getenv("CPU");
  without_avx512 = wanted && !strcmp(wanted, "avx2");
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  faulting = !syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
}
