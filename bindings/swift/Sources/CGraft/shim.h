// The installed header, wherever it is.
#include <graft.h>
