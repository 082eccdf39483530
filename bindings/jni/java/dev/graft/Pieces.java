package dev.graft;

/** Gathers the text of an answer, and shows it to the listener on the way. */
final class Pieces {
    private final StringBuilder text = new StringBuilder();
    private final Handle session;
    private final TextListener listener;

    Pieces(Handle session, TextListener listener) {
        this.session = session;
        this.listener = listener;
    }

    /** Called by the native library: whole characters in UTF-8. False, or what is thrown here, ends the generation. */
    boolean piece(byte[] utf8) {
        String piece = Texts.decode(utf8);
        text.append(piece);
        if (listener != null) {
            listener.onText(piece);
        }
        return !session.isClosed();
    }

    String text() {
        return text.toString();
    }
}
