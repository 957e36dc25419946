// What llama.cpp computes for given token ids: the oracle of the greedy and teacher-forcing comparisons.
//
//   llama_cpp_logits MODEL.gguf [-n N] [-t THREADS] [--exact] [--one-by-one] [--logits OUT.f32] < ids
//
// Reads token ids (whitespace or commas between them) from standard input, evaluates them as one sequence, then generates N more
// greedily (no stop, ties to the lower id). Prints one line per position: the id that stands there, the argmax of its logits, the
// largest logit and its distance to the second: `id argmax top gap`. `--logits` writes all of them, f32 [positions, vocabulary].
// `--exact` takes an f32 cache and no flash attention: then float files agree with other implementations to 1e-6; llama.cpp's own
// defaults round keys, values and probabilities to f16 (0.005 logits on a small random model).
// `--one-by-one` decodes the given ids singly, not in batches of 512.
//
// Build, with S the source and B the build folder of llama.cpp (BUILD_SHARED_LIBS=OFF):
//   L="$B/src/libllama.a $B/ggml/src/libggml.a $B/ggml/src/libggml-cpu.a $B/ggml/src/libggml-base.a"
//   g++ -O2 -std=c++17 llama_cpp_logits.cpp -I$S/include -I$S/ggml/include $L -fopenmp -lpthread -ldl -o llama_cpp_logits
#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

struct Options {
    const char * model = nullptr;
    const char * logits = nullptr;
    int generate = 0;
    int threads = 2;
    bool exact = false;
    bool one_by_one = false;
};

[[noreturn]] static void fail(const char * message) {
    fprintf(stderr, "error: %s\n", message);
    exit(2);
}

static Options parse(int argc, char ** argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        std::string name = argv[i];
        auto value = [&] { return ++i < argc ? argv[i] : (fail("an option lacks its value"), argv[0]); };
        if (name == "-n") options.generate = atoi(value());
        else if (name == "-t") options.threads = atoi(value());
        else if (name == "--exact") options.exact = true;
        else if (name == "--logits") options.logits = value();
        else if (name == "--one-by-one") options.one_by_one = true;
        else options.model = argv[i];
    }
    if (!options.model) fail("no model given");
    return options;
}

static std::vector<llama_token> read_ids() {
    std::vector<llama_token> ids;
    long id;
    while (scanf(" %ld", &id) == 1) {
        ids.push_back((llama_token) id);
        (void) !scanf(" ,");
    }
    return ids;
}

struct Run {
    llama_context * context;
    int vocabulary;
    int position = 0;
    FILE * logits;

    // Evaluates ids after what came before, prints a line for each; returns the last argmax.
    llama_token evaluate(const llama_token * ids, int count) {
        llama_batch batch = llama_batch_init(count, 0, 1);
        batch.n_tokens = count;
        for (int i = 0; i < count; i++) {
            batch.token[i] = ids[i];
            batch.pos[i] = position + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) fail("llama_decode failed");
        llama_token best = 0;
        for (int i = 0; i < count; i++) {
            const float * row = llama_get_logits_ith(context, i);
            best = (llama_token) (std::max_element(row, row + vocabulary) - row);
            float second = -INFINITY;
            for (int j = 0; j < vocabulary; j++) if (j != best) second = std::max(second, row[j]);
            printf("%d %d %.6g %.6g\n", ids[i], best, row[best], row[best] - second);
            if (logits) fwrite(row, sizeof(float), vocabulary, logits);
        }
        llama_batch_free(batch);
        position += count;
        return best;
    }
};

int main(int argc, char ** argv) {
    Options options = parse(argc, argv);
    std::vector<llama_token> ids = read_ids();
    if (ids.empty()) fail("no ids on standard input");
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr); }, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file(options.model, model_params);
    if (!model) fail("the model does not load");

    llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t) (ids.size() + options.generate + 8);
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = options.threads;
    if (options.exact) {
        params.type_k = params.type_v = GGML_TYPE_F32;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    llama_context * context = llama_init_from_model(model, params);
    if (!context) fail("no context");

    FILE * logits = options.logits ? fopen(options.logits, "wb") : nullptr;
    if (options.logits && !logits) fail("cannot write the logits file");
    Run run{context, llama_vocab_n_tokens(llama_model_get_vocab(model)), 0, logits};
    size_t step = options.one_by_one ? 1 : 512;
    llama_token next = 0;
    for (size_t start = 0; start < ids.size(); start += step) {
        next = run.evaluate(&ids[start], (int) std::min(step, ids.size() - start));
    }
    for (int i = 0; i < options.generate; i++) {
        llama_token id = next;
        next = run.evaluate(&id, 1);
    }
    if (logits && fclose(logits) != 0) fail("cannot write the logits file");
    llama_free(context);
    llama_model_free(model);
    return 0;
}
