package dev.graft;

/** How to write a conversation. */
public final class ChatOptions {
    /** A Jinja template to use instead of the model's, or {@code null}. */
    public String template;
    /** The tools that the model may call: a JSON list, or {@code null}. */
    public String tools;
    /** Whether the text ends where the assistant's answer begins. */
    public boolean addGenerationPrompt = true;
}
