package dev.graft;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A loaded model, shared by all its sessions. Any threads may use it at the same time. Sessions and adapters keep what they need of it: it
 * may be closed before them. Close it: nothing else frees its memory.
 */
public final class Model extends Handle {
    private final ModelInfo info;

    private Model(long pointer) {
        super(pointer);
        long[] numbers = new long[11];
        byte[][] texts;
        try {
            texts = Native.modelInfo(pointer, numbers);
        } catch (Throwable e) {
            close();
            throw e;
        }
        info = new ModelInfo(texts, numbers);
    }

    /** The native library's version, such as "0.1.0". */
    public static String libraryVersion() {
        return Texts.decode(Native.version());
    }

    /** Opens a GGUF file (any part of a split one). It is mapped, not copied, and must not be changed while it is in use. */
    public static Model open(String path) {
        return open(path, new ModelOptions());
    }

    /** As {@link #open(String)}, with options. */
    public static Model open(String path, ModelOptions options) {
        return new Model(Native.modelOpen(Texts.required(path), options.numbers(), options.read, Texts.encode(options.tokenizer)));
    }

    /**
     * Opens the GGUF file that is {@code length} bytes of an opened file from {@code offset} on (length 0: all up to its end). Android's
     * {@code AssetFileDescriptor} has the three. The descriptor stays the caller's, and may be closed when the call has returned.
     */
    public static Model open(int descriptor, long offset, long length, ModelOptions options) {
        if (offset < 0 || length < 0) {
            throw new IllegalArgumentException("an offset and a length are not negative");
        }
        byte[] tokenizer = Texts.encode(options.tokenizer);
        return new Model(Native.modelOpenFile(descriptor, offset, length, options.numbers(), options.read, tokenizer));
    }

    /**
     * Opens the GGUF file that lies in a direct buffer (one that {@code FileChannel.map} gave, too), from its position to its limit. The
     * bytes are not copied: the buffer is kept until the model and all that came of it are closed, and must not change.
     *
     * @throws IllegalArgumentException if the buffer is not direct
     */
    public static Model open(ByteBuffer buffer, ModelOptions options) {
        if (!buffer.isDirect()) {
            throw new IllegalArgumentException("the buffer is not a direct one");
        }
        return new Model(Native.modelOpenBuffer(buffer.slice(), options.numbers(), Texts.encode(options.tokenizer)));
    }

    /** Facts about it; also after it is closed. */
    public ModelInfo info() {
        return info;
    }

    /** The keys of the file's metadata, in its order. */
    public List<String> metadataKeys() {
        long model = enter();
        try {
            List<String> keys = new ArrayList<>();
            for (byte[] key : Native.modelMetadataKeys(model)) {
                keys.add(Texts.decode(key));
            }
            return keys;
        } finally {
            leave();
        }
    }

    /** A key's value as JSON: a number, a text, {@code true}, a list. */
    public String metadata(String key) {
        long model = enter();
        try {
            return Texts.decode(Native.modelMetadata(model, Texts.required(key)));
        } finally {
            leave();
        }
    }

    /** The tokens of a text, with the begin and end tokens that the model asks for; control tokens written out in it are plain text. */
    public int[] tokenize(String text) {
        return tokenize(text, true, false);
    }

    /**
     * The tokens of a text.
     *
     * @param ends add the begin and end tokens that the model's own rules ask for
     * @param special recognise control tokens written out in the text, such as {@code <|im_start|>}
     */
    public int[] tokenize(String text, boolean ends, boolean special) {
        long model = enter();
        try {
            return Native.tokenize(model, Texts.required(text), ends, special);
        } finally {
            leave();
        }
    }

    /** The text of tokens, without control tokens. */
    public String detokenize(int... tokens) {
        return detokenize(tokens, true);
    }

    /** The text of tokens. */
    public String detokenize(int[] tokens, boolean skipSpecial) {
        long model = enter();
        try {
            return Texts.decode(Native.detokenize(model, tokens, skipSpecial));
        } finally {
            leave();
        }
    }

    /** The bytes of one token: perhaps the middle of a character. */
    public byte[] tokenBytes(int token) {
        long model = enter();
        try {
            return Native.tokenBytes(model, token);
        } finally {
            leave();
        }
    }

    /** The token that is written so, control tokens too; -1 where there is none. */
    public int findToken(String text) {
        long model = enter();
        try {
            return Native.tokenFind(model, Texts.required(text));
        } finally {
            leave();
        }
    }

    /** Whether the model says by this token that it is done. */
    public boolean isEnd(int token) {
        long model = enter();
        try {
            return Native.tokenEnds(model, token);
        } finally {
            leave();
        }
    }

    /** A conversation as the model's chat template writes it. */
    public String render(List<Message> messages, ChatOptions options) {
        Texts texts = new Texts().add(options.template).add(options.tools).add(messages);
        long model = enter();
        try {
            return Texts.decode(Native.render(model, texts.bytes(), texts.lengths(), options.addGenerationPrompt));
        } finally {
            leave();
        }
    }

    /** As {@link #render(List, ChatOptions)}, up to where the assistant's answer begins. */
    public String render(Message... messages) {
        return render(Arrays.asList(messages), new ChatOptions());
    }

    /**
     * Opens the folder that PEFT's {@code save_pretrained} wrote (or a GGUF file of a LoRA) and puts it on this model. Every tensor of it
     * is applied, or the call fails.
     */
    public Adapter openAdapter(String path) {
        return openAdapter(path, -1);
    }

    /** As {@link #openAdapter(String)}; {@code taskId} says which task's prompt to take from a folder that holds several. */
    public Adapter openAdapter(String path, long taskId) {
        long model = enter();
        try {
            return new Adapter(Native.adapterOpen(model, Texts.required(path), taskId));
        } finally {
            leave();
        }
    }

    /** As {@link #openAdapter(String)}, of the bytes of {@code adapter_config.json} and {@code adapter_model.safetensors}: assets. */
    public Adapter openAdapter(byte[] config, byte[] tensors) {
        long model = enter();
        try {
            return new Adapter(Native.adapterOpenMemory(model, config, tensors, -1));
        } finally {
            leave();
        }
    }

    /** Starts a conversation. */
    public Session newSession() {
        return newSession(new SessionOptions());
    }

    /** Starts a conversation. */
    public Session newSession(SessionOptions options) {
        if (options.context < 0 || options.chunk < 0) {
            throw new IllegalArgumentException("sizes are not negative");
        }
        long model = enter();
        try {
            return new Session(Native.sessionNew(model, options.context, options.chunk, options.exact), this);
        } finally {
            leave();
        }
    }

    @Override
    void free(long pointer) {
        Native.modelFree(pointer);
    }
}
