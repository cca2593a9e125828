// The machine behind emulate.h, to be compiled on its own: threads as fibers, the meaning of every
// function of the vocabulary, and, where TILEC_CHECK is 1, the checks of how they are used.

#include "interface.h"

#include "arithmetic.h"
#include "tensor.h"

#include "machine/context.h"
#include "machine/findings.h"
#include "machine/clock.h"
#include "machine/shadow.h"
#include "machine/state.h"
#include "machine/schedule.h"
#include "machine/ordering.h"
#include "machine/races.h"
#include "machine/statistics.h"
#include "machine/shared.h"
#include "machine/global.h"
#include "machine/collective.h"
#include "machine/arithmetic.h"
#include "machine/atomics.h"
#include "machine/copies.h"
#include "machine/mbarrier.h"
#include "machine/bulk.h"
#include "machine/numbers.h"
#include "machine/matrix.h"
#include "machine/warpgroup.h"
#include "machine/wgmma.h"
#include "machine/launch.h"

namespace tilec::emulated {
const Position* position = nullptr;
Machine* machine = nullptr;
}
