package dev.graft;

/** One message of a conversation. */
public final class Message {
    /** "system", "user", "assistant", "tool", ... */
    public final String role;
    /** What it says. */
    public final String content;
    /** What else the chat template is to see ({@code tool_calls}, {@code name}, ...): a JSON object, or {@code null}. */
    public final String extra;

    /** A message with whatever else the chat template is to see. */
    public Message(String role, String content, String extra) {
        if (role == null || content == null) {
            throw new NullPointerException("a message has a role and a content");
        }
        this.role = role;
        this.content = content;
        this.extra = extra;
    }

    /** How the assistant is to behave. */
    public static Message system(String content) {
        return new Message("system", content, null);
    }

    /** What the person says. */
    public static Message user(String content) {
        return new Message("user", content, null);
    }

    /** What the model said. */
    public static Message assistant(String content) {
        return new Message("assistant", content, null);
    }
}
