package dev.graft;

/** Is shown text as soon as it is certain, by the thread that called {@code generate}. */
@FunctionalInterface
public interface TextListener {
    /**
     * The next piece of the answer: one or more whole characters.
     *
     * <p>The session is busy meanwhile; {@link Session#cancel()} ends the answer after this piece. What is thrown here ends it too, and is
     * thrown by {@code generate} again.
     */
    void onText(String text);
}
