package dev.graft;

/**
 * An object of the native library. It is freed when it was closed and no call uses it any more, so that no thread can pull it from under
 * another one's feet. Objects may be closed in any order: what still needs one keeps it.
 */
abstract class Handle implements AutoCloseable {
    private final long pointer;
    private int users;
    private boolean closed;

    Handle(long pointer) {
        this.pointer = pointer;
    }

    /** Frees what {@code pointer} stands for. */
    abstract void free(long pointer);

    /** Called once, when this is closed while calls are under way: the place to end them early. */
    void interrupt(long pointer) {}

    /**
     * The native object, which stays until {@link #leave()}.
     *
     * @throws IllegalStateException if this was closed
     */
    final synchronized long enter() {
        if (closed) {
            throw new IllegalStateException(getClass().getSimpleName() + " is closed");
        }
        users++;
        return pointer;
    }

    /** Ends what {@link #enter()} began. */
    final void leave() {
        boolean last;
        synchronized (this) {
            users--;
            last = closed && users == 0;
        }
        if (last) {
            free(pointer);
        }
    }

    final synchronized boolean isClosed() {
        return closed;
    }

    /** Frees this, as soon as calls that are under way have returned. Closing twice does nothing. Any thread. */
    @Override
    public final void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            if (users > 0) {
                interrupt(pointer);
                return;
            }
        }
        free(pointer);
    }
}
