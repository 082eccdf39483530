import dev.graft.Adapter;
import dev.graft.Cancel;
import dev.graft.ChatOptions;
import dev.graft.GenerateOptions;
import dev.graft.GraftException;
import dev.graft.Message;
import dev.graft.Model;
import dev.graft.ModelOptions;
import dev.graft.Sampling;
import dev.graft.Session;
import dev.graft.SessionOptions;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collections;

/** Models, adapters, errors, closing. */
final class ModelTest extends Check {
    private static final String EMOJI = "caf\u00e9 \ud83d\ude80 \ud83d\udc69\u200d\ud83d\udcbb \u0000 \u65e5\u672c";

    // Models.

    static void info() {
        try (Model model = tinyModel()) {
            equal(model.info().architecture, "llama");
            check(model.info().vocabSize > 0 && model.info().layers > 0 && model.info().hiddenSize > 0, "sizes");
            check(model.info().isa != null && model.info().threads > 0, "the machine");
            check(model.metadataKeys().contains("general.architecture"), "keys");
            equal(model.metadata("general.architecture"), "\"llama\"");
            check(Model.libraryVersion().matches("\\d+\\.\\d+\\.\\d+.*"), "version");
            try (Adapter adapter = tinyAdapter(model, "all-linear")) {
                equal(adapter.info().method, "LORA");
                check(adapter.info().sites > 0 && adapter.info().minRank > 0 && adapter.info().parameters > 0, "the adapter");
            }
        }
    }

    static void texts() {
        try (Model model = Model.open(real)) {
            equal(model.detokenize(model.tokenize(EMOJI, false, false)), EMOJI);
            equal(model.tokenize("").length, 0);
            int[] rocket = model.tokenize("\ud83d\ude80", false, false);
            byte[] bytes = new byte[4];
            int n = 0;
            for (int token : rocket) {
                for (byte b : model.tokenBytes(token)) {
                    bytes[n++] = b;
                }
            }
            check(Arrays.equals(bytes, "\ud83d\ude80".getBytes(StandardCharsets.UTF_8)), "the bytes of tokens");
            int end = model.findToken("<|im_end|>");
            check(end >= 0 && model.isEnd(end) && !model.isEnd(rocket[0]), "the end token");
            equal(model.findToken("no such token"), -1);
            check(model.tokenize("<|im_end|>", false, true).length == 1, "control tokens where they are asked for");
            check(model.tokenize("<|im_end|>", false, false).length > 1, "control tokens where they are not");
            equal(model.detokenize(new int[] {end}, true), "");
            equal(model.detokenize(new int[] {end}, false), "<|im_end|>");
            equal(model.render(Message.user(EMOJI)).contains(EMOJI), true);
            ChatOptions options = new ChatOptions();
            options.template = "{% for m in messages %}[{{ m.role }}:{{ m.content }}:{{ m.name }}]{% endfor %}";
            Message named = new Message("tool", "\u00e4", "{\"name\": \"\ud83d\ude80\"}");
            equal(model.render(Arrays.asList(Message.system(""), named), options), "[system::][tool:\u00e4:\ud83d\ude80]");
        }
    }

    static void sources() throws Exception {
        byte[] bytes = Files.readAllBytes(Paths.get(tiny, "model.gguf"));
        float[] expected;
        int[] prompt = {5, 6, 7};
        try (Model model = tinyModel(); Session session = model.newSession()) {
            expected = session.eval(prompt);
            equal(expected.length, model.info().vocabSize);
        }
        ModelOptions read = new ModelOptions();
        read.read = true;
        read.threads = 2;
        try (Model model = Model.open(tiny + "/model.gguf", read); Session session = model.newSession()) {
            check(Arrays.equals(session.eval(prompt), expected), "the same logits, read");
            equal(model.info().threads, 2);
        }
        ModelOptions cpu = new ModelOptions();
        cpu.device = ModelOptions.Device.CPU;
        try (Model model = Model.open(tiny + "/model.gguf", cpu)) {
            check(model.info().device == null && model.info().gpuLayers == 0, "all on the CPU");
        }
        cpu.gpuLayers = -2;
        equal(graft(GraftException.Status.USAGE, () -> Model.open(tiny + "/model.gguf", cpu)).getItem(), "gpu_layers");

        // In the middle of a file, as an asset is in an Android app, and not at a page.
        Path package_ = scratch.resolve("package");
        byte[] packed = new byte[bytes.length + 8192];
        int offset = 4096 + 4;
        System.arraycopy(bytes, 0, packed, offset, bytes.length);
        Files.write(package_, packed);
        Model asset;
        try (RandomAccessFile file = new RandomAccessFile(package_.toFile(), "r")) {
            asset = Model.open(descriptor(package_), offset, bytes.length, new ModelOptions());
        }
        try (Session session = asset.newSession()) {
            asset.close();
            check(Arrays.equals(session.eval(prompt), expected), "the same logits from a descriptor");
        }
        try (FileChannel channel = FileChannel.open(package_)) {
            ByteBuffer mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, packed.length);
            mapped.position(offset).limit(offset + bytes.length);
            try (Model model = Model.open(mapped, new ModelOptions()); Session session = model.newSession()) {
                check(Arrays.equals(session.eval(prompt), expected), "the same logits from a mapped buffer");
            }
        }
        thrown(IllegalArgumentException.class, () -> Model.open(ByteBuffer.wrap(bytes), new ModelOptions()));
    }

    /** The descriptor of the file that this process has open: Android tells it, Java does not. */
    static int descriptor(Path file) throws IOException {
        try (DirectoryStream<Path> links = Files.newDirectoryStream(Paths.get("/proc/self/fd"))) {
            for (Path link : links) {
                try {
                    if (Files.readSymbolicLink(link).equals(file.toRealPath())) {
                        return Integer.parseInt(link.getFileName().toString());
                    }
                } catch (IOException gone) {
                    continue; // the folder's own descriptor
                }
            }
        }
        throw new AssertionError(file + " is not open");
    }

    static void bufferIsReleased() throws Exception {
        byte[] bytes = Files.readAllBytes(Paths.get(tiny, "model.gguf"));
        ByteBuffer buffer = ByteBuffer.allocateDirect(bytes.length);
        buffer.put(bytes).flip();
        WeakReference<ByteBuffer> weak = new WeakReference<>(buffer);
        Model model = Model.open(buffer, new ModelOptions());
        buffer = null;
        System.gc();
        check(weak.get() != null, "the buffer is kept while there is a model");
        try (Session session = model.newSession()) {
            model.close();
            System.gc();
            session.eval(1, 2);
            check(weak.get() != null, "the buffer is kept while there is a session");
        }
        for (int i = 0; i < 100 && weak.get() != null; i++) {
            System.gc();
            Thread.sleep(10);
        }
        check(weak.get() == null, "the buffer is let go");

        for (int size : new int[] {0, 64}) {
            graft(GraftException.Status.INVALID, () -> Model.open(ByteBuffer.allocateDirect(size), new ModelOptions()));
        }
    }

    // Errors.

    static void errors() throws Exception {
        GraftException missing = graft(GraftException.Status.IO, () -> Model.open("/no/such/\ud83d\ude80.gguf"));
        equal(missing.getFile(), "/no/such/\ud83d\ude80.gguf");
        Path broken = scratch.resolve("broken.gguf");
        Files.write(broken, "no model".getBytes(StandardCharsets.UTF_8));
        equal(graft(GraftException.Status.INVALID, () -> Model.open(broken.toString())).getFile(), broken.toString());
        graft(GraftException.Status.USAGE, () -> Model.open(-1, 0, 0, new ModelOptions()));
        try (Model model = tinyModel(); Session session = model.newSession(); Model other = Model.open(real)) {
            graft(GraftException.Status.IO, () -> model.openAdapter("/no/such/adapter"));
            graft(GraftException.Status.MISMATCH, () -> tinyAdapter(other, "qv"));
            graft(GraftException.Status.USAGE, () -> session.eval(model.info().vocabSize));
            graft(GraftException.Status.USAGE, () -> session.eval(-1));
            graft(GraftException.Status.USAGE, () -> model.metadata("no.such.key"));
            graft(GraftException.Status.USAGE, () -> model.tokenBytes(-1));
            graft(GraftException.Status.USAGE, () -> session.truncate(1));
            GraftException state = graft(GraftException.Status.INVALID, () -> session.restore(new byte[] {1, 2, 3}));
            check(state.getItem() != null || state.getExpected() != null || state.getFound() != null, "where: " + state.getMessage());
            GenerateOptions options = new GenerateOptions();
            options.sampling = new Sampling();
            options.sampling.temperature = -1;
            equal(graft(GraftException.Status.USAGE, () -> session.generate(new int[] {1}, options, null)).getItem(), "temperature");
            try (Adapter adapter = tinyAdapter(model, "qv"); Session elsewhere = other.newSession()) {
                graft(GraftException.Status.MISMATCH, () -> elsewhere.setAdapter(adapter));
                graft(GraftException.Status.USAGE, () -> session.setAdapters(Collections.singletonMap(adapter, Float.NaN)));
            }
        }
    }

    static void wrongArguments() throws Exception {
        thrown(NullPointerException.class, () -> Model.open(null));
        try (Model model = tinyModel(); Session session = model.newSession()) {
            thrown(NullPointerException.class, () -> model.tokenize(null));
            thrown(NullPointerException.class, () -> session.generate((String) null, null));
            thrown(NullPointerException.class, () -> session.generate(new int[] {1}, null, null));
            thrown(NullPointerException.class, () -> new Message("user", null, null));
            thrown(IllegalArgumentException.class, () -> session.generate(new int[] {1}, tokens(-1), null));
            SessionOptions options = new SessionOptions();
            options.context = -1;
            thrown(IllegalArgumentException.class, () -> model.newSession(options));
            session.eval(1); // nothing is held by what failed
        }
    }

    static void closed() throws Exception {
        Model model = tinyModel();
        Session session = model.newSession();
        Adapter adapter = tinyAdapter(model, "qv");
        Cancel cancel = new Cancel();
        adapter.close();
        cancel.close();
        thrown(IllegalStateException.class, () -> session.setAdapter(adapter));
        thrown(IllegalStateException.class, cancel::set);
        GenerateOptions options = tokens(1);
        options.cancel = cancel;
        thrown(IllegalStateException.class, () -> session.generate(new int[] {1}, options, null));
        session.eval(1); // is not held by what failed
        session.close();
        session.close();
        session.cancel();
        thrown(IllegalStateException.class, () -> session.eval(1));
        thrown(IllegalStateException.class, () -> session.generate("x", null));
        model.close();
        thrown(IllegalStateException.class, model::newSession);
        thrown(IllegalStateException.class, () -> model.tokenize("x"));
        equal(model.info().architecture, "llama");
    }

    static void closeOrder() {
        for (int order = 0; order < 6; order++) {
            Model model = tinyModel();
            Adapter adapter = tinyAdapter(model, "all-linear");
            Session session = model.newSession();
            session.setAdapter(adapter);
            float[] expected = session.eval(1, 2, 3);
            session.reset();
            AutoCloseable[][] orders = {
                {model, adapter, session}, {model, session, adapter}, {adapter, model, session},
                {adapter, session, model}, {session, model, adapter}, {session, adapter, model}
            };
            boolean open = true;
            for (AutoCloseable each : orders[order]) {
                try {
                    each.close();
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
                open &= each != session;
                check(!open || Arrays.equals(session.eval(1, 2, 3), expected), "the session goes on");
                if (open) {
                    session.reset();
                }
            }
        }
    }

    static void adapterFromMemory() throws Exception {
        Path folder = Paths.get(tiny, "adapters", "rslora");
        byte[] config = Files.readAllBytes(folder.resolve("adapter_config.json"));
        byte[] tensors = Files.readAllBytes(folder.resolve("adapter_model.safetensors"));
        try (Model model = tinyModel();
                Adapter file = tinyAdapter(model, "rslora");
                Adapter memory = model.openAdapter(config, tensors);
                Session session = model.newSession()) {
            session.setAdapter(file);
            float[] expected = session.eval(1, 2);
            session.reset();
            session.setAdapter(memory);
            check(Arrays.equals(session.eval(1, 2), expected), "the same logits");
            graft(GraftException.Status.INVALID, () -> model.openAdapter(new byte[0], tensors));
        }
    }
}
