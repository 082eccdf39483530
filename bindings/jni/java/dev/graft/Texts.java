package dev.graft;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Texts on their way to the native library: UTF-8, one after the other, so that one array crosses instead of many. (JNI's own strings are
 * a "modified UTF-8", in which an emoji is six bytes.)
 */
final class Texts {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private int[] lengths = new int[8];
    private int count;

    /** The UTF-8 of a text; {@code null} stays. */
    static byte[] encode(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    /** The UTF-8 of a text, which must not be {@code null}. */
    static byte[] required(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The text of UTF-8; {@code null} stays. */
    static String decode(byte[] utf8) {
        return utf8 == null ? null : new String(utf8, StandardCharsets.UTF_8);
    }

    /** Appends a text; {@code null} is one of length -1. */
    Texts add(String text) {
        byte[] utf8 = encode(text);
        if (count == lengths.length) {
            lengths = Arrays.copyOf(lengths, 2 * count);
        }
        lengths[count++] = utf8 == null ? -1 : utf8.length;
        if (utf8 != null) {
            bytes.write(utf8, 0, utf8.length);
        }
        return this;
    }

    /** Appends the role, the content and the extra of each message. */
    Texts add(Iterable<Message> messages) {
        for (Message message : messages) {
            add(message.role).add(message.content).add(message.extra);
        }
        return this;
    }

    byte[] bytes() {
        return bytes.toByteArray();
    }

    int[] lengths() {
        return Arrays.copyOf(lengths, count);
    }
}
