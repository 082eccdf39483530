import dev.graft.Adapter;
import dev.graft.Answer;
import dev.graft.GenerateOptions;
import dev.graft.GraftException;
import dev.graft.Message;
import dev.graft.Model;
import dev.graft.Session;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A chat in a terminal. Adapters are switched between two answers.
 *
 * <pre>java ... Chat MODEL.gguf [NAME=ADAPTER_FOLDER ...]</pre>
 */
public final class Chat {
    private static final String HELP =
            "/adapter NAME   answer with this adapter from now on\n"
                    + "/off            answer with the model alone\n"
                    + "/reset          begin a new conversation\n"
                    + "/quit           end";

    public static void main(String[] args) throws IOException {
        if (args.length == 0) {
            System.err.println("usage: Chat MODEL.gguf [NAME=ADAPTER_FOLDER ...]");
            System.exit(2);
        }
        try {
            run(args);
        } catch (GraftException e) {
            System.err.println("Chat: " + e.getMessage());
            System.exit(1);
        }
    }

    private static void run(String[] args) throws IOException {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Model model = Model.open(args[0]); Session session = model.newSession()) {
            Map<String, Adapter> adapters = new LinkedHashMap<>();
            for (int i = 1; i < args.length; i++) {
                String[] parts = args[i].split("=", 2);
                adapters.put(parts[0], model.openAdapter(parts[parts.length - 1]));
            }
            GenerateOptions options = new GenerateOptions();
            options.maxTokens = 256;
            List<Message> messages = new ArrayList<>();

            out.print("> ");
            for (String line = in.readLine(); line != null && !line.equals("/quit"); line = in.readLine()) {
                if (line.equals("/off")) {
                    session.setAdapter(null);
                } else if (line.equals("/reset")) {
                    messages.clear();
                } else if (line.startsWith("/adapter ") && adapters.containsKey(line.substring(9))) {
                    session.setAdapter(adapters.get(line.substring(9)));
                } else if (line.startsWith("/")) {
                    out.println(HELP + "\nadapters: " + String.join(", ", adapters.keySet()));
                } else if (!line.isEmpty()) {
                    messages.add(Message.user(line));
                    Answer answer = session.generate(messages, options, text -> {
                        out.print(text);
                        out.flush();
                    });
                    out.println();
                    messages.add(Message.assistant(answer.text));
                }
                out.print("> ");
                out.flush();
            }
            for (Adapter adapter : adapters.values()) {
                adapter.close();
            }
        }
    }
}
